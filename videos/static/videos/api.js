// Calls of the public API, by the session's cookie, which no script can read.

const page = document.body.dataset;
const api = new URL(page.api.replace(/videos\/$/, ""), location.href); // the service may be served under a path of its own
export const account = { name: page.user };

// An answer that is no success, or none at all (status 0).
export class Refused extends Error {
  constructor(status, answer) {
    super(Object.values(answer.errors ?? [answer.detail]).flat().join(" "));
    Object.assign(this, { status, code: answer.code });
  }
}

export async function call(path, { method = "GET", body, ...options } = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["X-CSRFToken"] = csrfToken();
  // "no-cache": the browser asks with the ETag of what it has, and a 304 costs no body.
  const sent = { method, headers, body: body && JSON.stringify(body), cache: "no-cache", ...options };
  const response = await fetch(new URL(path, api), sent).catch((error) => {
    throw error.name === "AbortError" ? error : new Refused(0, {});
  });
  const answer = response.status === 204 ? null : await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

// From the cookie, because it changes at each sign-in, in another tab too.
function csrfToken() {
  return document.cookie.split("; ").find((pair) => pair.startsWith(`${page.csrf}=`))?.slice(page.csrf.length + 1) ?? "";
}

/** A random id by which views of this browser are told from others of its address. */
export function viewer() {
  let id = localStorage.getItem("viewer");
  if (!id) localStorage.setItem("viewer", (id = crypto.getRandomValues(new Uint32Array(4)).join("-")));
  return id;
}
