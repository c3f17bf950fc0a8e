// Reads one question as JSON from standard input and answers as JSON: {"do": "vectors"}, {"do": "seal", …} or
// {"do": "open", …}. Bytes are hexadecimal.

import { readFileSync } from "node:fs";

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex as hex, concatBytes as join, hexToBytes as bytes } from "@noble/hashes/utils.js";

import { bindingDigest, body, open, privateKeys, publicKeys, seal } from "./envelope.mjs";

/** What of the vectors does not hold; nothing, if all is well. */
function vectors(path) {
  const v = JSON.parse(readFileSync(path, "utf8"));
  const wrong = [];
  const expect = (what, found, wanted) => found === wanted || wrong.push(what);
  const to = privateKeys(v.recipient.private);
  const sender = privateKeys(v.sender.private);
  const by = publicKeys(v.sender.public);
  const place = { to, by, binding: v.binding };
  expect("recipient's digest", hex(to.public.digest), v.recipient.fingerprint);
  expect("sender's digest", hex(by.digest), v.sender.fingerprint);
  expect("sender's private key", hex(sender.public.digest), v.sender.fingerprint);
  expect("binding", hex(bindingDigest(v.binding)), v.binding.digest);
  v.small.forEach((one, i) => expect(`small ${i}`, hex(open(bytes(one.envelope), place)), one.content));
  for (const one of v.large.envelopes) {
    const content = new Uint8Array(one.size).map((_, i) => i % 251);
    const header = bytes(one.header);
    const envelope = join(header, body(content, header, bytes(one.key)));
    expect(`large ${one.size}: digest`, hex(sha256(envelope)), one.sha256);
    expect(`large ${one.size}: content`, hex(sha256(open(envelope, place))), hex(sha256(content)));
  }
  for (const [part, at] of Object.entries(v.broken.at)) {
    const envelope = bytes(v.small.at(-1).envelope);
    envelope[at < 0 ? envelope.length + at : at] ^= 1;
    try {
      open(envelope, place);
    } catch {
      continue;
    }
    wrong.push(`opened with a broken ${part}`);
  }
  return { wrong, checked: v.small.length + v.large.envelopes.length + Object.keys(v.broken.at).length };
}

const actions = {
  vectors: (q) => vectors(q.path),
  seal: (q) => ({
    envelope: hex(seal(bytes(q.content), { to: publicKeys(q.to), by: privateKeys(q.by), binding: q.binding })),
  }),
  open: (q) => ({
    content: hex(open(bytes(q.envelope), { to: privateKeys(q.to), by: publicKeys(q.by), binding: q.binding })),
  }),
};

const question = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(actions[question.do](question)));
