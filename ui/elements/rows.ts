// The rows of a table of cases. A row changes where it stands; one that comes waits until it is asked for.
import type { News } from "./asking";
import { type Tree, grow } from "./tree";

const LEAVES_AFTER_MS = 4000;

export class Rows {
  constructor(readonly body: HTMLTableSectionElement, private readonly left: string) {}

  get all(): HTMLTableRowElement[] {
    return [...this.body.querySelectorAll<HTMLTableRowElement>("tr[data-case]")];
  }

  of(caseId: string): HTMLTableRowElement | null {
    return this.body.querySelector(`tr[data-case="${CSS.escape(caseId)}"]`);
  }

  get held(): string {
    return this.all.map(row => `${row.dataset.case}:${row.dataset.is}`).join();
  }

  // Changes what is there; answers the ids of cases that are not. `isWhole`: no other page follows.
  show(news: News, isWhole: boolean): string[] {
    for (const [caseId, tree] of Object.entries(news.parts ?? {})) this.#change(caseId, tree);
    for (const caseId of news.gone ?? []) this.#leave(this.of(caseId));
    const order = news.order ?? [];
    const last = order.findLastIndex(caseId => this.of(caseId));
    const fresh = order.filter((caseId, at) => !this.of(caseId) && (isWhole || at < last || last < 0));
    return fresh;
  }

  #change(caseId: string, tree: Tree): void {
    const before = this.of(caseId);
    if (!before) return;
    const after = grow(tree) as HTMLTableRowElement;
    const kept = before.querySelectorAll("[data-kept]");
    after.querySelectorAll("[data-kept]").forEach((cell, at) => {
      if (kept[at]?.hasChildNodes()) cell.replaceChildren(...kept[at].cloneNode(true).childNodes);
    });
    this.dress(after, before);
    const focused = before.contains(document.activeElement);
    before.replaceWith(after);
    if (focused) after.querySelector<HTMLElement>("a")?.focus({ preventScroll: true });
  }

  // What the page knows of a row beside its case.
  dress(after: HTMLTableRowElement, before: HTMLTableRowElement): void {
    const tabindex = before.querySelector("a")?.getAttribute("tabindex");
    if (tabindex) after.querySelector("a")?.setAttribute("tabindex", tabindex);
    if (before.ariaSelected) after.ariaSelected = before.ariaSelected;
  }

  // Nothing of the case stays; the row goes a little later, and takes the focus to the next.
  #leave(row: HTMLTableRowElement | null): void {
    if (!row) return;
    const cells = row.cells.length;
    const note = grow(["td", { class: "left", colspan: String(cells) }, ["span", { tabindex: "-1" }, this.left]]);
    const focused = row.contains(document.activeElement);
    delete row.dataset.case;
    row.className = "left";
    row.removeAttribute("aria-selected");
    row.replaceChildren(note);
    if (focused) note.querySelector("span")?.focus({ preventScroll: true });
    setTimeout(() => {
      const next = row.nextElementSibling ?? row.previousElementSibling;
      if (row.contains(document.activeElement)) next?.querySelector<HTMLElement>("a")?.focus({ preventScroll: true });
      row.remove();
    }, LEAVES_AFTER_MS);
  }
}
