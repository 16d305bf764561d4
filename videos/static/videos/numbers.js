// Likes and views of what is on the screen: shown, changed, and kept current.

import { account, call } from "./api.js";
import { find, full, short, text, why } from "./texts.js";
import { signIn } from "./account.js";

const EVERY_MS = 4000;
const shown = new Map(); // element -> the id of its video
const visible = new Set(); // elements on the screen
const marks = new WeakMap(); // element -> what its buttons are about to say
const eyes = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) visible[isIntersecting ? "add" : "delete"](target);
});

export function say(element, message) {
  find(".note", element).textContent = message;
}

export function follow(element, video) {
  shown.set(element, video.id);
  marks.set(element, {});
  eyes.observe(element);
  find(".like", element).addEventListener("click", () => like(element));
  show(element, video);
}

function show(element, { like_count: likes, view_count: views, liked }) {
  if (views !== undefined) {
    find(".views", element).textContent = text("views", { n: views });
    find(".views", element).title = full(views);
  }
  const mark = marks.get(element);
  if (likes === undefined || mark.busy) return; // the answer to the caller's own like settles it
  Object.assign(mark, { likes, liked: liked ?? false });
  draw(element, mark.liked, likes);
}

function draw(element, liked, likes) {
  const button = find(".like", element);
  button.setAttribute("aria-pressed", String(liked));
  button.title = full(likes);
  find(".likes", button).textContent = short(likes);
}

// Shows the wish at once, sends it, and settles on the answer. Wishes meanwhile are sent after it, the last one alone.
async function like(element) {
  const id = shown.get(element), mark = marks.get(element);
  if (!account.name && !(await signIn(text("sign_in_to_like")))) return;
  mark.wish = !(mark.busy ? mark.wish : mark.liked);
  draw(element, mark.wish, mark.likes + mark.wish - mark.liked);
  say(element, "");
  if (mark.busy) return;
  mark.busy = true;
  try {
    while (mark.wish !== mark.liked) {
      const answer = await call(`videos/${id}/like/`, { method: mark.wish ? "PUT" : "DELETE" });
      Object.assign(mark, { liked: answer.liked, likes: answer.like_count });
    }
  } catch (error) {
    say(element, text("not_liked", { why: why(error) }));
    if (error.status === 401) account.ended();
  }
  mark.busy = false;
  draw(element, mark.liked, mark.likes);
}

/** One call for all that is on the screen; nothing while the tab is hidden. */
export async function refresh() {
  const ids = [...new Set([...visible].map((element) => shown.get(element)))];
  if (document.hidden || !ids.length) return;
  const numbers = new Map((await call(`videos/counts/?ids=${ids.slice(0, 100)}`)).map((video) => [video.id, video]));
  for (const element of visible) {
    const video = numbers.get(shown.get(element));
    if (video) show(element, video);
  }
}

const tick = () => refresh().catch(() => {}); // the next turn tries again
setInterval(tick, EVERY_MS);
document.addEventListener("visibilitychange", tick);

export function forget(elements) {
  for (const element of shown.keys()) {
    if (elements.some((gone) => gone.contains(element))) {
      eyes.unobserve(element);
      visible.delete(element);
      shown.delete(element);
    }
  }
}
