// Cases that somebody has chosen, on whatever page they are. Reading them leads from one to the next.
import type { Rows } from "./rows";
import { rowOf } from "./focus";

export class Choice {
  readonly #chosen = new Set<string>();

  constructor(private readonly rows: Rows, private readonly bar: HTMLElement, private readonly told: string) {
    rows.table.addEventListener("click", event => {
      if (event.ctrlKey || event.metaKey || !event.shiftKey || !rowOf(event.target)) return;
      event.preventDefault();
      this.toggle(rowOf(event.target));
    });
    bar.querySelector("[data-clears]")?.addEventListener("click", () => this.clear());
  }

  toggle(row: HTMLTableRowElement | null): void {
    const caseId = row?.dataset.case;
    if (!caseId) return;
    if (!this.#chosen.delete(caseId)) this.#chosen.add(caseId);
    this.show();
  }

  add(row: HTMLTableRowElement | null): void {
    if (row?.dataset.case) this.#chosen.add(row.dataset.case);
    this.show();
  }

  drop(caseIds: readonly string[]): void {
    caseIds.forEach(caseId => this.#chosen.delete(caseId));
    if (caseIds.length) this.show();
  }

  clear(): void {
    const hadFocus = this.bar.contains(document.activeElement);
    this.#chosen.clear();
    this.show();
    if (hadFocus) this.rows.all[0]?.querySelector("a")?.focus({ preventScroll: true });
  }

  // Marks the rows that are built; the bar says how many are chosen at all.
  show(): void {
    for (const row of this.rows.all) {
      if (this.#chosen.has(row.dataset.case!)) row.dataset.chosen = "";
      else delete row.dataset.chosen;
    }
    this.bar.hidden = this.#chosen.size === 0;
    this.bar.querySelector("[data-told]")!.textContent = this.told.replace("{}", String(this.#chosen.size));
    this.bar.querySelector<HTMLInputElement>("[name=cases]")!.value = [...this.#chosen].join();
  }
}
