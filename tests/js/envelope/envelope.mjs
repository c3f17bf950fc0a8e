// The envelope of docs/envelope.md, written from that page alone.

import { gcm } from "@noble/ciphers/aes.js";
import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { sha3_256 } from "@noble/hashes/sha3.js";
import { concatBytes as join, randomBytes, utf8ToBytes as text } from "@noble/hashes/utils.js";
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js";

const CHUNK = 1024 * 1024;
const TAG = 16;
const HEADER = 1306;
const START = Uint8Array.of(0xf6, 0x56, 0x36, 0x53, 0x45, 0x41, 0x4c, 0x0a, 1, 1);
const SUITE_ID = join(text("HPKE"), Uint8Array.of(0x64, 0x7a, 0, 1, 0, 2));
const XWING_LABEL = Uint8Array.of(0x5c, 0x2e, 0x2f, 0x2f, 0x5e, 0x5c);

const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);
const refuse = (why) => {
  throw new Error(why);
};

// Keys

const OIDS = { mlkem: "0609608648016503040402", x25519: "06032b656e", ed25519: "06032b6570" };

function blocks(pem, label) {
  const found = {};
  const pattern = new RegExp(`-----BEGIN ${label}-----([^-]+)-----END ${label}-----`, "g");
  for (const [, body] of pem.matchAll(pattern)) {
    const der = Buffer.from(body, "base64");
    const kind = Object.keys(OIDS).find((name) => der.toString("hex").includes(OIDS[name]));
    if (!kind || found[kind]) refuse("not one key of each kind");
    found[kind] = new Uint8Array(der);
  }
  return Object.keys(found).length === 3 ? found : refuse("not one key of each kind");
}

/** The private file: the raw secrets are at the ends of the PKCS #8 blocks. */
export function privateKeys(pem) {
  const der = blocks(pem, "PRIVATE KEY");
  const kem = ml_kem768.keygen(der.mlkem.slice(-64));
  const [x, signing] = [der.x25519.slice(-32), der.ed25519.slice(-32)];
  const publics = { mlkem: kem.publicKey, x25519: x25519.getPublicKey(x), ed25519: ed25519.getPublicKey(signing) };
  return { mlkem: kem.secretKey, x25519: x, ed25519: signing, public: withDigest(publics) };
}

export function publicKeys(pem) {
  const der = blocks(pem, "PUBLIC KEY");
  return withDigest({ mlkem: der.mlkem.slice(-1184), x25519: der.x25519.slice(-32), ed25519: der.ed25519.slice(-32) });
}

function withDigest(keys) {
  return { ...keys, digest: sha256(join(text("vantage6 public key v1\0"), keys.mlkem, keys.x25519, keys.ed25519)) };
}

// Binding

function u64(number) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(number));
  return bytes;
}

export function bindingDigest(b) {
  const ids = join(u64(b.collaboration_id), u64(b.sender_id), u64(b.recipient_id));
  return sha256(join(text("vantage6 binding v1\0"), ids, Uint8Array.of(b.purpose), text(b.task_key)));
}

// HPKE (RFC 9180, base mode) with X-Wing

const extract = (salt, label, material) => hmac(sha256, salt, join(text("HPKE-v1"), SUITE_ID, text(label), material));
const expand = (secret, label, info, size) =>
  hmac(sha256, secret, join(Uint8Array.of(0, size), text("HPKE-v1"), SUITE_ID, text(label), info, Uint8Array.of(1)))
    .slice(0, size);

function keySchedule(shared, info) {
  const none = new Uint8Array(0);
  const context = join(
    Uint8Array.of(0), extract(none, "psk_id_hash", none), extract(none, "info_hash", info),
  );
  const secret = extract(shared, "secret", none);
  return gcm(expand(secret, "key", context, 32), expand(secret, "base_nonce", context, 12));
}

const combine = (kem, dh, ephemeral, recipient) => sha3_256(join(kem, dh, ephemeral, recipient, XWING_LABEL));

function wrap(key, to, info) {
  const { cipherText, sharedSecret } = ml_kem768.encapsulate(to.mlkem);
  const secret = randomBytes(32);
  const ephemeral = x25519.getPublicKey(secret);
  const shared = combine(sharedSecret, x25519.getSharedSecret(secret, to.x25519), ephemeral, to.x25519);
  return join(cipherText, ephemeral, keySchedule(shared, info).encrypt(key));
}

function unwrap(wrapped, to, info) {
  const [ciphertext, ephemeral, sealed] = [wrapped.slice(0, 1088), wrapped.slice(1088, 1120), wrapped.slice(1120)];
  const kem = ml_kem768.decapsulate(ciphertext, to.mlkem);
  const shared = combine(kem, x25519.getSharedSecret(to.x25519, ephemeral), ephemeral, to.public.x25519);
  return keySchedule(shared, info).decrypt(sealed);
}

// Envelope

function chunkCipher(key, header, number, last) {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setUint32(7, number);
  nonce[11] = last ? 1 : 0;
  return gcm(key, nonce, sha256(join(text("vantage6 envelope v1 body\0"), header)));
}

/** Encrypts the content under a header and a key that are there already, as the large vectors have them. */
export function body(content, header, key) {
  const count = Math.max(1, Math.ceil(content.length / CHUNK));
  const pieces = [];
  for (let i = 0; i < count; i++) {
    const chunk = content.slice(i * CHUNK, (i + 1) * CHUNK);
    pieces.push(chunkCipher(key, header, i, i === count - 1).encrypt(chunk));
  }
  return join(...pieces);
}

export function seal(content, { to, by, binding }) {
  const key = randomBytes(32);
  const start = join(START, to.digest.slice(0, 16), by.public.digest.slice(0, 16), bindingDigest(binding));
  const unsigned = join(start, wrap(key, to, join(text("vantage6 envelope v1 key\0"), start)));
  const header = join(unsigned, ed25519.sign(join(text("vantage6 envelope v1 header\0"), unsigned), by.ed25519));
  return join(header, body(content, header, key));
}

export function open(envelope, { to, by, binding }) {
  if (envelope.length < HEADER + TAG) refuse("too short");
  const header = envelope.slice(0, HEADER);
  if (!same(header.slice(0, 10), START)) refuse("magic, version or suite");
  if (!same(header.slice(10, 26), to.public.digest.slice(0, 16))) refuse("for another key");
  if (!same(header.slice(26, 42), by.digest.slice(0, 16))) refuse("by another key");
  if (!same(header.slice(42, 74), bindingDigest(binding))) refuse("for another place");
  const signed = join(text("vantage6 envelope v1 header\0"), header.slice(0, 1242));
  if (!ed25519.verify(header.slice(1242), signed, by.ed25519)) refuse("header signature");
  const key = unwrap(header.slice(74, 1242), to, join(text("vantage6 envelope v1 key\0"), header.slice(0, 74)));
  const pieces = [];
  for (let at = HEADER, i = 0; at < envelope.length; at += CHUNK + TAG, i++) {
    const piece = envelope.slice(at, at + CHUNK + TAG);
    const last = at + piece.length === envelope.length;
    if (i && last && piece.length === TAG) refuse("empty last chunk");
    pieces.push(chunkCipher(key, header, i, last).decrypt(piece));
  }
  return join(...pieces);
}
