// What pages ask for by themselves. Everything travels in the body of a form, which carries the token of the session.
import type { Tree } from "./tree";

export interface News {
  order?: string[];
  gone?: string[];
  parts?: Record<string, Tree>;
  next?: string;
  previous?: string;
  continues?: boolean;
  end?: "again" | "away" | "locked" | "ended";
}

export type Fields = Record<string, string>;

// `refused`: the session counts no more, or the list is kept no more. `busy`: too much at once. `away`: no answer.
export class Failure extends Error {
  constructor(readonly kind: "refused" | "busy" | "away") { super(kind); }
}

const token = (): string => document.querySelector<HTMLInputElement>("input[name=token]")?.value ?? "";

export async function send(path: string, fields: Fields, signal?: AbortSignal): Promise<Response> {
  let answer: Response;
  try {
    const body = new URLSearchParams({ token: token(), ...fields });
    answer = await fetch(path, { method: "POST", body, redirect: "manual", signal: signal ?? null });
  } catch {
    throw new Failure("away");
  }
  if (answer.ok) return answer;
  throw new Failure(answer.status >= 500 ? "away" : answer.status === 429 ? "busy" : "refused");
}

export async function ask(path: string, fields: Fields): Promise<News> {
  return await (await send(path, fields)).json() as News;
}

// Each line of an answer as it comes. Whoever hears nothing for `silenceMs` is cut off.
export async function* lines(path: string, fields: Fields, stop: AbortController, silenceMs: number): AsyncGenerator<News> {
  let silence = setTimeout(() => stop.abort(), silenceMs);
  try {
    const body = (await send(path, fields, stop.signal)).body;
    if (!body) throw new Failure("away");
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(), silenceMs);
      const parts = (rest + value).split("\n");
      rest = parts.pop() ?? "";
      for (const line of parts) yield JSON.parse(line) as News;
    }
  } catch (error) {
    throw error instanceof Failure ? error : new Failure("away");
  } finally {
    clearTimeout(silence);
    stop.abort();
  }
}
