// What an algorithm in JavaScript finds in its container: its input, its data, its output, and the node's proxy.
//
// Nothing here is particular to this algorithm: copy the file. The contract is docs/algorithm-contract.md; the stub is
// generated from `descriptors.binpb`, which holds it in the form that protobuf has for that.

import { readFileSync, writeFileSync } from "node:fs";

import grpc from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer } from "@grpc/proto-loader";

/** The researcher asked for something that cannot be done; the text is for them, so no values of the data in it. */
export class InputError extends Error {}

const DONE = "RESULT_STATE_COMPLETED";

/** What is told of an error: only our own words leave the site, since others may hold values of the data. */
function words(error) {
  if (error instanceof InputError || error instanceof SiteError) return error.message;
  return `${error instanceof Error ? error.constructor.name : typeof error} (its text stays at the site)`;
}

// Whatever nobody catches, Node.js would print whole: its text, and even the line of the program.
if (process.env.SHARE_ERRORS !== "1") {
  for (const event of ["uncaughtException", "unhandledRejection"]) {
    process.on(event, (error) => {
      console.error(`error > ${words(error)}`);
      process.exit(1);
    });
  }
}

/** Runs the method that the input names, and ends the process as the contract says. */
export async function run(methods) {
  let proxy;
  try {
    const { method, args = [], kwargs = {} } = deserialize(readFileSync(process.env.INPUT_FILE));
    if (!Object.hasOwn(methods, method)) {
      throw new InputError(`there is no method ${method}; there are ${Object.keys(methods).join(", ")}`);
    }
    // Only who asks for the proxy needs one: what runs at a single site can be tried without a network.
    const found = { readTable, get proxy() { return (proxy ??= new Proxy()); } };
    const value = await methods[method](found, args, kwargs);
    writeFileSync(process.env.OUTPUT_FILE, serialize(value));
  } catch (error) {
    process.exitCode = error instanceof InputError ? 2 : 1;
    console.error(`error > ${words(error)}`);
  } finally {
    proxy?.close();
  }
}

/** Something went wrong at a site or in the proxy; the text is the node's, without values. */
export class SiteError extends Error {}

/** The service of the node's proxy, and what goes around its calls. */
class Proxy {
  #stub;
  #metadata = new grpc.Metadata();

  constructor(address = process.env.PROXY_ADDRESS, token = readFileSync(process.env.TOKEN_FILE, "utf8")) {
    const contract = readFileSync(new URL("descriptors.binpb", import.meta.url));
    const options = { keepCase: true, enums: String, longs: Number, defaults: true };
    const api = grpc.loadPackageDefinition(loadFileDescriptorSetFromBuffer(contract, options)).vantage6.api.v1;
    this.#stub = new api.AlgorithmService(address, grpc.credentials.createInsecure());
    this.#metadata.set("authorization", `Bearer ${token}`);
  }

  close() {
    this.#stub.close();
  }

  /** One call with one answer, such as `call("GetRun")`. */
  call(method, request = {}) {
    return new Promise((resolve, reject) => {
      this.#stub[method](request, this.#metadata, (error, answer) => (error ? reject(told(error)) : resolve(answer)));
    });
  }

  /** One call with a stream of answers. */
  async *stream(method, request = {}) {
    try {
      yield* this.#stub[method](request, this.#metadata);
    } catch (error) {
      throw told(error);
    }
  }

  async organizations() {
    const found = [];
    for await (const each of this.stream("ListParticipants")) found.push(each);
    return found;
  }

  /** Runs a method of this image at organizations (all, unless told which), and yields what each returns as it comes. */
  async *subtask(method, args = [], organizations = undefined) {
    const asked = organizations ?? (await this.organizations()).map((each) => each.id);
    const input = serialize({ method, args, kwargs: {} });
    const task = await this.call("CreateSubtask", { input, organization_ids: asked, name: method });
    let parts = [];
    let first;
    for await (const message of this.stream("StreamResults", { task_id: task.id })) {
      first ??= message;
      parts.push(message.output);
      if (message.more) continue; // A large output comes in several messages.
      if (first.state !== DONE) {
        throw new SiteError(`${first.organization_name}: ${first.reason} ${first.message}`);
      }
      yield { organization: first.organization_name, value: deserialize(Buffer.concat(parts)) };
      [first, parts] = [undefined, []];
    }
  }
}

function told(error) {
  return new SiteError(`the node: ${grpc.status[error.code]}: ${error.details}`);
}

/** A value as the contract wants it: the format's name, a dot, the value. */
function serialize(value) {
  return Buffer.from(`json.${JSON.stringify(value)}`);
}

function deserialize(data) {
  const end = data.indexOf(".");
  const format = data.subarray(0, end).toString().toLowerCase();
  if (format !== "json") throw new InputError(`this algorithm reads json, not ${format}`);
  return JSON.parse(data.subarray(end + 1).toString());
}

/** The rows of a CSV file, as objects: the first database of the task unless a label says another. */
function readTable(label = "") {
  const variable = `${label ? `${label.toUpperCase().replaceAll("-", "_")}_` : ""}DATABASE_URI`;
  const path = process.env[variable];
  if (!path) throw new InputError("the task names no database");
  const [names, ...rows] = [...csvRows(readFileSync(path, "utf8"))];
  return rows.map((row) => Object.fromEntries(names.map((name, place) => [name, row[place] ?? ""])));
}

/** RFC 4180: fields may be quoted, and then hold commas, line ends and doubled quotes. */
function* csvRows(text) {
  const field = /("(?:[^"]|"")*"|[^,\r\n]*)(,|\r?\n|$)/gy;
  let row = [];
  while (field.lastIndex < text.length) {
    const [, raw, end] = field.exec(text);
    row.push(raw.startsWith('"') ? raw.slice(1, -1).replaceAll('""', '"') : raw);
    if (end !== ",") {
      yield row;
      row = [];
    }
  }
}
