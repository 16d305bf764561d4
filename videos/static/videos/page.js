// The best example of the API's client: which view an address shows, and how the visitor gets there.

import { find, text, why } from "./texts.js";
import { forget, refresh } from "./numbers.js";
import { onChange } from "./account.js";
import { showAll, showLikes } from "./lists.js";
import { showVideo } from "./watch.js";

const main = find("main"), root = document.body.dataset.root, title = document.title;
let leaving = new AbortController();
let here = location.href;
let kept = null; // the list that the visitor came from, as it was

function viewOf(path) {
  const [, id] = path.match(/^videos\/(\d+)\/$/) ?? [];
  if (id) return ["watch", showVideo, { id }];
  if (path === "likes/") return ["liked", showLikes, {}];
  return ["all", showAll, {}];
}

/** Show what the address says. `focus`: the name of the field that had it; else the heading gets it, but at the start. */
async function show(focus) {
  leaving.abort();
  leaving = new AbortController();
  here = location.href;
  const { signal } = leaving;
  const [template, view, given] = viewOf(location.pathname.slice(root.length));
  forget([...main.children].filter((child) => !kept?.nodes.includes(child)));
  main.replaceChildren(find(`#${template}`).content.cloneNode(true));
  document.title = title;
  for (const link of document.querySelectorAll("header [data-page]")) {
    link.toggleAttribute("aria-current", link.pathname === location.pathname);
  }
  if (focus !== undefined) {
    scrollTo(0, 0);
    find(focus ? `[name=${focus}]` : "h1", main)?.focus();
  }
  try {
    await view(main, { ...given, signal, go });
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    const heading = find("h1", main);
    if (template === "watch") heading.textContent = error.status === 404 ? text("no_video") : text("failed");
    find(".status, .note", main).textContent = why(error);
  }
}

function go(address, focus = "") {
  const list = find(".videos", main);
  if (list) kept = { href: here, nodes: [...main.children], y: scrollY, focus: document.activeElement };
  history.pushState(null, "", address);
  show(focus);
}

function back() {
  if (kept?.href !== location.href) return show("");
  leaving.abort();
  leaving = new AbortController();
  here = location.href;
  const { nodes, y, focus } = kept;
  forget([...main.children].filter((child) => !nodes.includes(child)));
  main.replaceChildren(...nodes);
  document.title = title;
  kept = null;
  scrollTo(0, y);
  focus.focus({ preventScroll: true });
  return refresh();
}

addEventListener("popstate", back);
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-page]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.href);
});
find("#language").addEventListener("click", ({ currentTarget }) => {
  document.cookie = `${currentTarget.dataset.cookie}=${currentTarget.lang}; path=/; max-age=31536000; SameSite=Lax`;
  location.reload();
});
onChange(() => {
  if (location.pathname.slice(root.length) === "likes/") show();
  else refresh().catch(() => {});
});
show();
