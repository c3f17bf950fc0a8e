// A researcher's program in JavaScript: REST through the user proxy, which encrypts. Needs nothing but Node.js.
// Arguments: file of the proxy, and the task in JSON. Prints what the organizations returned.

import { readFileSync } from "node:fs";

const [file, task] = process.argv.slice(2);
const proxy = JSON.parse(readFileSync(file, "utf8"));

async function call(path, options = {}) {
  const headers = { authorization: `Bearer ${proxy.token}`, "content-type": "application/json" };
  const answer = await fetch(proxy.url + path, { ...options, headers });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  return answer;
}

const { id } = await (await call("/api/task", { method: "POST", body: task })).json();

// Pushed, never polled; the stream ends when the task is complete.
const kinds = new Set();
for await (const piece of (await call(`/api/event?task_id=${id}`)).body.pipeThrough(new TextDecoderStream())) {
  for (const [, kind] of piece.matchAll(/^event: (\w+)$/gm)) kinds.add(kind);
}

const results = await (await call(`/api/task/${id}/result`)).json();
const values = results.map(({ state, reason, error, result }) => ({
  state,
  reason,
  error,
  value: result && JSON.parse(Buffer.from(result, "base64").toString().replace(/^json\./, "")),
}));
console.log(JSON.stringify({ kinds: [...kinds], values }));
