// The rows of a table of cases that are built. A row changes where it stands.
import type { News } from "./asking";
import { type Tree, grow } from "./tree";

const LEAVES_AFTER_MS = 4000;

export class Rows {
  constructor(readonly table: HTMLTableElement, private readonly left: string) {}

  get all(): HTMLTableRowElement[] {
    return [...this.table.querySelectorAll<HTMLTableRowElement>("tr[data-case]")];
  }

  of(caseId: string): HTMLTableRowElement | null {
    return this.table.querySelector(`tr[data-case="${CSS.escape(caseId)}"]`);
  }

  // Changes what is there.
  show(news: News): void {
    for (const [caseId, tree] of Object.entries(news.parts ?? {})) this.#change(caseId, tree);
    for (const caseId of news.gone ?? []) this.#leave(this.of(caseId));
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
    if (before.dataset.chosen !== undefined) after.dataset.chosen = "";
  }

  // Nothing of the case stays; the row goes a little later, and takes the focus to the next.
  #leave(row: HTMLTableRowElement | null): void {
    if (!row) return;
    const cells = row.cells.length;
    const note = grow(["td", { class: "left", colspan: String(cells) }, ["span", { tabindex: "-1" }, this.left]]);
    const focused = row.contains(document.activeElement);
    delete row.dataset.case;
    row.className = "left";
    delete row.dataset.chosen;
    row.replaceChildren(note);
    if (focused) note.querySelector("span")?.focus({ preventScroll: true });
    setTimeout(() => {
      const next = row.nextElementSibling ?? row.previousElementSibling;
      if (row.contains(document.activeElement)) next?.querySelector<HTMLElement>("a")?.focus({ preventScroll: true });
      row.remove();
    }, LEAVES_AFTER_MS);
  }
}
