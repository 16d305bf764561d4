// A web player's client: it lists videos with their numbers, likes, and reports views. Nothing here but the API is used.

const COUNTS_EVERY_MS = 5000;
const MOST_IDS = 100; // that the API takes in one call
const REASONS = {
  seen: "seen already, a while ago",
  bot: "this browser is taken for a bot",
  short: "watched too shortly",
  owner: "it is your own",
  address: "too many views from this address",
  full: "there are too many visitors just now",
};

const find = (selector, within = document) => within.querySelector(selector);
const page = document.body.dataset;
const api = page.api.replace(/videos\/$/, ""); // the service may be served under a path of its own
const cards = new Map(); // video id -> its card
let next = null;

function say(text) {
  find("#status").textContent = text;
}

// Who is asking

const account = {
  get name() { return sessionStorage.getItem("name") || page.user; },
  get access() { return sessionStorage.getItem("access"); },
  keep(tokens) { for (const [key, value] of Object.entries(tokens)) sessionStorage.setItem(key, value); },
  forget() { for (const key of ["name", "access", "refresh"]) sessionStorage.removeItem(key); },
};

function viewer() {
  let id = localStorage.getItem("viewer");
  if (!id) {
    id = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    localStorage.setItem("viewer", id);
  }
  return id;
}

async function call(address, { method = "GET", body, retry = true } = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (account.access) headers.Authorization = `Bearer ${account.access}`;
  else if (page.user && method !== "GET") headers["X-CSRFToken"] = page.csrf;
  const response = await fetch(address, { method, headers, body: body && JSON.stringify(body) });
  if (response.status === 401 && account.access && retry) {
    await renew();
    return call(address, { method, body, retry: false });
  }
  const answer = response.status === 204 ? null : await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.detail || Object.values(answer).flat().join(" ") || `Error ${response.status}`);
  return answer;
}

// A refresh token works once, so calls that find the access token expired at the same time share one renewal.
let renewal = null;

function renew() {
  renewal ??= renewTokens().finally(() => { renewal = null; });
  return renewal;
}

async function renewTokens() {
  const refresh = sessionStorage.getItem("refresh");
  const response = await fetch(`${api}token/refresh/`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ refresh }),
  });
  if (response.ok) account.keep(await response.json());
  else {
    account.forget();
    showAccount();
  }
}

function showAccount() {
  find("#sign-in").hidden = Boolean(account.name);
  find("#signed-in").hidden = !account.name;
  find("#signed-in span").textContent = account.name ? `Signed in as ${account.name}` : "";
}

// Videos

function show(video) {
  const card = find("#video").content.firstElementChild.cloneNode(true);
  find("h2", card).textContent = video.title;
  find(".screen", card).style.setProperty("--hue", String((video.id * 47) % 360));
  find(".play", card).setAttribute("aria-label", `Play ${video.title}`);
  find(".like", card).setAttribute("aria-label", `Like ${video.title}`);
  if (video.duration) {
    const seconds = String(video.duration % 60).padStart(2, "0");
    find(".duration", card).textContent = `${Math.floor(video.duration / 60)}:${seconds}`;
  }
  find(".play", card).addEventListener("click", () => play(video, card));
  find(".like", card).addEventListener("click", () => like(video.id, card));
  cards.set(video.id, card);
  find("#videos").append(card);
  showCounts(video);
}

function showCounts({ id, like_count: likes, view_count: views, liked }) {
  const card = cards.get(id);
  if (!card) return;
  if (likes !== undefined) find(".likes", card).textContent = likes.toLocaleString();
  if (views !== undefined) find(".views", card).textContent = `${views.toLocaleString()} ${views === 1 ? "view" : "views"}`;
  if (liked !== undefined) find(".like", card).setAttribute("aria-pressed", String(Boolean(liked)));
}

async function load(address) {
  say("Loading …");
  const found = await call(address);
  found.results.forEach(show);
  next = found.next;
  find("#more").hidden = !next;
  say(cards.size ? "" : "No video was found.");
}

function loadFirst() {
  cards.clear();
  find("#videos").replaceChildren();
  const asked = new FormData(find("#find"));
  return load(`${api}videos/?${new URLSearchParams({ ...Object.fromEntries(asked), page_size: "24" })}`);
}

async function like(id, card) {
  if (!account.name) {
    say("Sign in to like a video.");
    find("#sign-in input").focus();
    return;
  }
  const liked = find(".like", card).getAttribute("aria-pressed") === "true";
  showCounts(await call(`${api}videos/${id}/like/`, { method: liked ? "DELETE" : "PUT" }));
}

async function play(video, card) {
  const player = document.createElement("video");
  player.controls = true;
  player.src = video.url;
  player.addEventListener("error", () => find(".screen", card).replaceChildren("There is no film at its address."));
  find(".screen", card).replaceChildren(player);
  player.focus();
  player.play().catch(() => {}); // told by its error event
  const view = await call(`${api}videos/${video.id}/view/`, { method: "POST", body: { viewer: viewer() } });
  showCounts({ id: view.id, view_count: view.view_count });
  say(view.counted ? "Your view was counted." : `Your view was not counted: ${REASONS[view.reason]}.`);
}

async function readCounts() {
  if (document.hidden) return;
  const ids = [...cards.keys()];
  for (let i = 0; i < ids.length; i += MOST_IDS) {
    (await call(`${api}videos/counts/?ids=${ids.slice(i, i + MOST_IDS)}`)).forEach(showCounts);
  }
}

// What the visitor does

function answer(selector, event, act) {
  find(selector).addEventListener(event, async (happened) => {
    happened.preventDefault();
    await act(happened.target);
  });
}

answer("#find", "submit", loadFirst);
answer("#find select", "change", loadFirst);
answer("#more", "click", () => load(next));
answer("#sign-in", "submit", async (form) => {
  const given = Object.fromEntries(new FormData(form));
  const tokens = await call(`${api}token/`, { method: "POST", body: given, retry: false });
  account.keep({ ...tokens, name: given.username });
  form.reset();
  showAccount();
  say(`Signed in as ${account.name}.`);
  await readCounts();
});
answer("#sign-out", "click", async () => {
  if (account.access) {
    const body = { refresh: sessionStorage.getItem("refresh") };
    account.forget();
    await call(`${api}token/revoke/`, { method: "POST", body, retry: false }).catch(() => {}); // it may have ended
  }
  else await fetch("/admin/logout/", { method: "POST", headers: { "X-CSRFToken": page.csrf } }).then(() => { page.user = ""; });
  showAccount();
  await readCounts();
});
addEventListener("unhandledrejection", (failure) => {
  failure.preventDefault();
  say(failure.reason.message);
});

showAccount();
loadFirst();
setInterval(() => readCounts().catch(() => {}), COUNTS_EVERY_MS); // what cannot be read now is read at the next turn
