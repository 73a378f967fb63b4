// An invitation comes with its code behind the `#` of the address, where no server and no log sees it.
const field = document.querySelector("input[name=code]");
const code = location.hash.slice(1);
if (field && code) {
  field.value = code;
  history.replaceState(null, "", location.pathname);
  document.querySelector("input[name=password]")?.focus();
}
