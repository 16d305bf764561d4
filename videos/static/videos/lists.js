// Pages of videos as cards: all of them, found and ordered as the address says, or those that the visitor likes.

import { account, call } from "./api.js";
import { clock, copy, find, text } from "./texts.js";
import { follow } from "./numbers.js";
import { signIn } from "./account.js";

const PAGE_SIZE = "24";

function card(video) {
  const element = copy("card");
  const link = find("h2 a", element);
  link.textContent = video.title;
  link.href = `${document.body.dataset.root}videos/${video.id}/`;
  find(".screen", element).style.setProperty("--hue", String((video.id * 47) % 360));
  find(".like", element).setAttribute("aria-label", text("like_of", { title: video.title }));
  if (video.duration) find(".duration", element).textContent = clock(video.duration);
  follow(element, video);
  return element;
}

async function fill(main, address, signal, videoOf = (result) => result) {
  const list = find(".videos", main), more = find(".more", main), note = find(".status", main);
  let next = address;
  async function load() {
    note.textContent = text("loading");
    const found = await call(next, { signal });
    const cards = found.results.map((result) => card(videoOf(result)));
    const had = document.activeElement === more;
    list.append(...cards);
    next = found.next;
    more.hidden = !next;
    if (had && cards.length) find("a", cards[0]).focus();
    note.textContent = list.children.length ? "" : text("none_found");
  }
  more.onclick = () => load().catch((error) => { if (error.name !== "AbortError") note.textContent = error.message; });
  await load();
}

export async function showAll(main, { signal, go }) {
  const asked = new URLSearchParams(location.search), form = find("form", main);
  for (const field of form.elements) if (field.name) field.value = asked.get(field.name) ?? field.value;
  const search = () => {
    const given = new URLSearchParams(new FormData(form));
    if (!given.get("search")) given.delete("search");
    if (given.get("ordering") === "-created_at") given.delete("ordering");
    go(`${document.body.dataset.root}${given.size ? `?${given}` : ""}`, document.activeElement.name);
  };
  form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
  form.elements.ordering.addEventListener("change", search);
  const query = new URLSearchParams({ page_size: PAGE_SIZE });
  for (const name of ["search", "ordering"]) if (asked.get(name)) query.set(name, asked.get(name));
  await fill(main, `videos/?${query}`, signal);
}

export async function showLikes(main, { signal }) {
  if (!account.name && !(await signIn(text("sign_in_to_see")))) {
    find(".status", main).textContent = text("sign_in_to_see");
    return;
  }
  await fill(main, `me/likes/?page_size=${PAGE_SIZE}`, signal, (result) => result.video);
}
