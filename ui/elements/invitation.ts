// An invitation comes with its code behind the `#` of the address, where no server and no log sees it.
export function readInvitation(): void {
  const field = document.querySelector<HTMLInputElement>("input[name=code]");
  const code = location.hash.slice(1);
  if (!field || !code) return;
  field.value = code;
  history.replaceState(null, "", location.pathname);
  document.querySelector<HTMLInputElement>("input[name=password]")?.focus();
}
