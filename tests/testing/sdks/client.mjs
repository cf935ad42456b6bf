// Lets the providers' own SDKs for JavaScript do jobs, and tells what came of each; client.py is the same for Python.
//
// Jobs come as JSON, one on a line of standard input, and run eight at a time; what came of them goes to standard output, one JSON
// object on a line, in the order in which they end. A job: {id, sdk, url, stream, tools, fault, deadline, timeout}.

import readline from "node:readline";
import Anthropic from "@anthropic-ai/sdk";
import { Ollama } from "ollama";
import OpenAI from "openai";

const MESSAGES = [{ role: "user", content: "Hi" }];
const PARAMETERS = { type: "object", properties: { at: { type: "string" } } };
const FUNCTION = { name: "look", description: "Look somewhere.", parameters: PARAMETERS };

function options(job) {
  return { apiKey: "none", baseURL: job.url, timeout: job.timeout * 1000 };
}

function headers(job) {
  return { "x-job": String(job.id), ...(job.fault ? { "x-veyra-fault": job.fault } : {}) };
}

async function openaiChat(job, seen, signal) {
  const client = new OpenAI(options(job));
  const body = { model: "m", messages: MESSAGES, stream: job.stream };
  if (job.tools) body.tools = [{ type: "function", function: FUNCTION }];
  const answer = await client.chat.completions.create(body, { headers: headers(job), signal });
  if (!job.stream) {
    const choice = answer.choices[0];
    seen.text += choice.message.content ?? "";
    seen.finish = choice.finish_reason;
    for (const call of choice.message.tool_calls ?? []) seen.calls.push([call.function.name, call.function.arguments]);
    return;
  }
  for await (const chunk of answer) {
    const choice = chunk.choices[0];
    if (!choice) continue;
    seen.text += choice.delta.content ?? "";
    seen.finish = choice.finish_reason ?? seen.finish;
    for (const call of choice.delta.tool_calls ?? []) {
      seen.calls[call.index] ??= [call.function.name, ""];
      seen.calls[call.index][1] += call.function.arguments ?? "";
    }
  }
}

async function openaiResponses(job, seen, signal) {
  const client = new OpenAI(options(job));
  const body = { model: "m", input: "Hi", stream: job.stream };
  if (job.tools) body.tools = [{ type: "function", strict: false, ...FUNCTION }];
  const answer = await client.responses.create(body, { headers: headers(job), signal });
  const ended = (response) => {
    seen.finish = response.status;
    for (const item of response.output) if (item.type === "function_call") seen.calls.push([item.name, item.arguments]);
  };
  if (!job.stream) {
    seen.text += answer.output_text;
    ended(answer);
    return;
  }
  for await (const event of answer) {
    if (event.type === "response.output_text.delta") seen.text += event.delta;
    if (["response.completed", "response.failed", "response.incomplete"].includes(event.type)) ended(event.response);
  }
}

async function anthropic(job, seen, signal) {
  const client = new Anthropic(options(job));
  const body = { model: "m", max_tokens: 99, messages: MESSAGES };
  if (job.tools) body.tools = [{ name: FUNCTION.name, description: FUNCTION.description, input_schema: PARAMETERS }];
  const ended = (message) => {
    seen.finish = message.stop_reason;
    for (const block of message.content) {
      if (block.type === "tool_use") seen.calls.push([block.name, JSON.stringify(block.input)]);
    }
  };
  if (!job.stream) {
    const message = await client.messages.create(body, { headers: headers(job), signal });
    for (const block of message.content) if (block.type === "text") seen.text += block.text;
    ended(message);
    return;
  }
  const stream = client.messages.stream(body, { headers: headers(job), signal });
  stream.on("text", (piece) => {
    seen.text += piece;
  });
  ended(await stream.finalMessage());
}

async function ollama(job, seen, signal) {
  const client = new Ollama({ host: job.url, headers: headers(job) });
  signal.addEventListener("abort", () => client.abort());
  const body = { model: "m", messages: MESSAGES, stream: job.stream };
  if (job.tools) body.tools = [{ type: "function", function: FUNCTION }];
  const answer = await client.chat(body);
  for await (const part of job.stream ? answer : [answer]) {
    seen.text += part.message.content;
    seen.finish = part.done_reason ?? seen.finish;
    for (const call of part.message.tool_calls ?? []) {
      seen.calls.push([call.function.name, JSON.stringify(call.function.arguments)]);
    }
  }
}

const DO = { openai_chat: openaiChat, openai_responses: openaiResponses, anthropic, ollama };

async function done(job) {
  const seen = { id: job.id, text: "", calls: [], finish: null, error: null, status: null, message: null, waits: false };
  const begun = performance.now();
  const giveUp = new AbortController();
  const deadline = new Promise((resolve) => {
    setTimeout(() => resolve("late"), job.deadline * 1000).unref();
  });
  const call = DO[job.sdk](job, seen, giveUp.signal).catch((error) => {
    seen.error = error.constructor.name;
    seen.status = error.status ?? error.status_code ?? null;
    seen.message = String(error.message);
  });
  const late = (await Promise.race([call, deadline])) === "late";
  const told = { ...seen, calls: [...seen.calls] };
  giveUp.abort();
  if (late) Object.assign(told, { waits: true, error: null, status: null, message: null });
  return { ...told, seconds: (performance.now() - begun) / 1000 };
}

console.log = console.error; // an SDK may say something; standard output is for what came of the jobs
process.on("unhandledRejection", () => {}); // of what was given up
const jobs = [];
for await (const line of readline.createInterface({ input: process.stdin })) jobs.push(JSON.parse(line));

async function work() {
  for (let job = jobs.shift(); job; job = jobs.shift()) process.stdout.write(`${JSON.stringify(await done(job))}\n`);
}

await Promise.all(Array.from({ length: 8 }, work));
process.exit(0);
