// A film and its numbers. A view is reported from what was really played.

import { call, viewer } from "./api.js";
import { day, find, text, why } from "./texts.js";
import { follow, refresh, say } from "./numbers.js";

const STEP_SECONDS = 2; // of a film between two of its events; a longer one was a jump

export async function showVideo(main, { id, signal }) {
  const video = await call(`videos/${id}/`, { signal });
  const film = find("video", main);
  document.title = video.title;
  find("h1", main).textContent = video.title;
  find(".about", main).textContent = text("about", { owner: video.owner?.username ?? `#${video.owner}`, day: day(video.created_at) });
  find(".description", main).textContent = video.description;
  film.setAttribute("aria-label", video.title);
  follow(main.firstElementChild, video);
  report(film, video, main.firstElementChild, signal);
  film.src = video.url;
}

// The time watched counts with the view, so it is reported once: when the film ends, or the visitor leaves.
function report(film, video, element, signal) {
  const needed = Math.min(Number(document.body.dataset.needed), video.duration ? video.duration / 2 : Infinity);
  let watched = 0, last = null, done = false;

  function step() {
    const now = film.currentTime, gained = last === null ? 0 : now - last;
    if (!document.hidden && !film.seeking && gained > 0 && gained < STEP_SECONDS * film.playbackRate) {
      if (watched < needed && watched + gained >= needed) say(element, text("enough"));
      watched += gained;
    }
    last = film.paused || film.seeking ? null : now;
  }

  async function send(keepalive) {
    if (done || !watched) return;
    done = true;
    try {
      // A beacon could carry no CSRF token, so a signed-in visitor would be another viewer. A kept-alive fetch can.
      const body = { viewer: viewer(), watched: Math.round(watched * 10) / 10 };
      const view = await call(`videos/${video.id}/view/`, { method: "POST", body, keepalive });
      done = view.reason !== "short";
      say(element, text(`view.${view.reason}`));
      await refresh();
    } catch (error) {
      done = false;
      say(element, text("not_counted", { why: why(error) }));
    }
  }

  film.addEventListener("playing", () => {
    last = film.currentTime;
    if (!watched) say(element, text("counts_after", { seconds: Math.ceil(needed) }));
  });
  for (const event of ["timeupdate", "pause", "seeking", "waiting"]) film.addEventListener(event, step);
  film.addEventListener("ended", () => { step(); send(false); });
  film.addEventListener("error", () => say(element, text("no_film")));
  const leave = () => { step(); send(true); };
  addEventListener("pagehide", leave, { signal });
  signal.addEventListener("abort", leave);
}
