// 100 users at once like 30,000 times, each like by another account, with views beside them. Every request that was
// not acknowledged, or did not count, is a line on the console ("like <line> <status>", "view <line> <why>").
//
// LIKES    file: "<method> <path> <token>" a line, one for each like
// VIEWS    file: "<method> <path>\t<content type>\t<body>" a line, one for each view
// BASE, AGENT, LIKERS, WATCHERS, SUMMARY

import http from 'k6/http';
import exec from 'k6/execution';
import { SharedArray } from 'k6/data';
import { Trend } from 'k6/metrics';

// Each user takes its own part of the lines at once, and few metrics are kept: the CPU time of k6 is missing to the
// service. Asking for each line by itself cost k6 as much as a request.
function shared(name, path, users) {
  return new SharedArray(name, () => {
    const lines = open(path).trim().split('\n');
    const most = Math.ceil(lines.length / users);
    return Array.from({ length: users }, (_, user) => lines.slice(user * most, (user + 1) * most));
  });
}

const likers = Number(__ENV.LIKERS);
const watchers = Number(__ENV.WATCHERS);
const likes = shared('likes', __ENV.LIKES, likers);
const views = shared('views', __ENV.VIEWS, watchers);
const likeMs = new Trend('like_ms');
const likeAt = new Trend('like_at');
const viewMs = new Trend('view_ms');
const viewAt = new Trend('view_at');

http.setResponseCallback(null); // no metric of failed requests: each is a line on the console

export const options = {
  scenarios: {
    users: {
      executor: 'per-vu-iterations',
      vus: likers + watchers,
      iterations: Math.max(likes[0].length, views[0].length),
      maxDuration: '20m',
    },
  },
  userAgent: __ENV.AGENT,
  discardResponseBodies: true,
  systemTags: ['scenario'],
  summaryTrendStats: ['avg', 'min', 'med', 'max', 'p(95)', 'p(99)'],
};

let lines;
let first;

export default function () {
  const user = exec.vu.idInTest - 1;
  const watches = user >= likers;
  if (lines === undefined) {
    lines = watches ? views[user - likers] : likes[user];
    first = watches ? (user - likers) * views[0].length : user * likes[0].length;
    (watches ? viewAt : likeAt).add(Date.now());
  }
  const i = exec.vu.iterationInScenario;
  if (i < lines.length) {
    (watches ? view : like)(first + i, lines[i]);
  }
}

function like(line, text) {
  const [method, path, token] = text.split(' ');
  const response = http.request(method, __ENV.BASE + path, null, {
    headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
  });
  likeAt.add(Date.now());
  likeMs.add(response.timings.duration);
  if (response.status !== 200) {
    console.log(`like ${line} ${response.status}`);
  }
}

function view(line, text) {
  const [request, type, body] = text.split('\t');
  const [method, path] = request.split(' ');
  const response = http.request(method, __ENV.BASE + path, body, {
    headers: { 'Content-Type': type }, responseType: 'text',
  });
  viewAt.add(Date.now());
  viewMs.add(response.timings.duration);
  if (response.status !== 200) {
    console.log(`view ${line} ${response.status}`);
  } else if (!/"counted": ?true/.test(response.body)) {
    console.log(`view ${line} uncounted`);
  }
}

export function handleSummary(data) {
  return { [__ENV.SUMMARY]: JSON.stringify(data) };
}
