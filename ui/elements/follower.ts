// Follows the list of a page: by a stream while the page is seen, else not at all. A browser opens six connections to a place
// (HTTP/1.1), so of all its windows three have a stream, by locks that browsers keep; the others ask every fifteen seconds.
import { type Fields, Failure, type News, ask, lines } from "./asking";

const STREAMS = 3;
const ASK_EVERY_MS = 15000;
const SILENCE_MS = 7000; // a stream says something every two seconds
const FIRST_RETRY_MS = 1000;

export type State = "live" | "asked" | "lost";

export interface Followed {
  fields(): Fields; // what the page shows
  show(news: News): void;
  told(state: State): void;
}

export class Follower {
  #stop: AbortController | null = null;
  #wake: (() => void) | null = null;
  #running = false;

  constructor(private readonly list: Followed, private readonly streams: boolean) {
    document.addEventListener("visibilitychange", () => this.#looked());
    addEventListener("pagehide", () => this.#stop?.abort());
    this.#looked();
  }

  #looked(): void {
    this.#stop?.abort();
    this.#wake?.();
    if (!document.hidden) void this.#run();
  }

  async #run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    let retry = FIRST_RETRY_MS;
    while (!document.hidden) {
      try {
        if (!this.streams || !await this.#streamed()) {
          this.list.show(await ask("/rows", this.list.fields()));
          this.list.told("asked");
          await this.#sleep(ASK_EVERY_MS);
        }
        retry = FIRST_RETRY_MS;
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        if (document.hidden) break;
        if (error.kind === "refused") return location.reload(); // which says what is to be done
        this.list.told("lost");
        await this.#sleep(retry * (0.75 + Math.random() / 2));
        retry = Math.min(2 * retry, ASK_EVERY_MS);
      }
    }
    this.#running = false;
  }

  // Whether there was a place for a stream; it has ended then, and is to be asked for anew.
  async #streamed(): Promise<boolean> {
    for (let place = 0; place < STREAMS; place++) {
      const taken = await navigator.locks.request(`readroom-stream-${place}`, { ifAvailable: true }, async lock => {
        if (lock) await this.#listen();
        return lock !== null;
      });
      if (taken) return true;
    }
    return false;
  }

  async #listen(): Promise<void> {
    this.#stop = new AbortController();
    for await (const news of lines("/live", this.list.fields(), this.#stop, SILENCE_MS)) {
      if (news.end === "away") throw new Failure("away");
      if (news.end === "locked" || news.end === "ended") throw new Failure("refused");
      if (news.end) return;
      this.list.show(news);
      this.list.told("live");
    }
    throw new Failure("away");
  }

  #sleep(ms: number): Promise<void> {
    return new Promise(resolve => {
      this.#wake = resolve;
      setTimeout(resolve, ms);
    });
  }
}
