// Sign-in in a dialog. The session's cookie serves all tabs, and they hear of each change.

import { account, call } from "./api.js";
import { find, text, why } from "./texts.js";

const dialog = find("#account");
const form = find("form", dialog);
const tabs = new BroadcastChannel("account");
let changed = () => {};
let settle = null;

export function onChange(act) {
  changed = act;
}

function show() {
  find("#sign-in").hidden = Boolean(account.name);
  find("#signed-in").hidden = !account.name;
  find("#user").textContent = account.name;
}

function become(name) {
  account.name = name;
  const lost = find("header").contains(document.activeElement);
  show();
  if (lost) find(name ? "#sign-out" : "#sign-in").focus(); // the button that had it is gone
  changed();
}

account.ended = () => become("");

// Whether name and password were right.
export function signIn(reason = "") {
  find("#why", dialog).textContent = reason;
  find("[role=alert]", dialog).textContent = "";
  dialog.showModal();
  return new Promise((resolve) => { settle = resolve; });
}

dialog.addEventListener("close", () => {
  form.elements.password.value = "";
  settle?.(Boolean(account.name));
});
find("#cancel").addEventListener("click", () => dialog.close());
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const alert = find("[role=alert]", dialog);
  alert.textContent = "";
  try {
    const given = Object.fromEntries(new FormData(form));
    const { username } = await call("session/", { method: "POST", body: given });
    account.name = username;
    dialog.close(); // the focus goes back to where it was
    become(username);
    tabs.postMessage(username);
  } catch (error) {
    alert.textContent = error.status === 401 ? text("wrong_password") : why(error);
    form.elements.password.select();
  }
});
find("#sign-in").addEventListener("click", () => signIn());
find("#sign-out").addEventListener("click", async () => {
  await call("session/", { method: "DELETE" });
  become("");
  tabs.postMessage("");
});
tabs.addEventListener("message", () => location.reload());
show();
