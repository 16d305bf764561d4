// 100 users at once like 30,000 times, each like by another user, with views beside them. Every acknowledgement is told:
// what was not acknowledged, or did not count, is a line on the console ("like <line> <status>", "view <line> <why>").
//
// LIKES    file: "<method> <path> <token>" a line, one for each like
// VIEWS    file: "<method> <path>\t<content type>\t<body>" a line, one for each view
// BASE, AGENT, LIKERS, WATCHERS, SUMMARY

import http from 'k6/http';
import exec from 'k6/execution';
import { SharedArray } from 'k6/data';
import { Trend } from 'k6/metrics';

const likes = new SharedArray('likes', () => open(__ENV.LIKES).trim().split('\n'));
const views = new SharedArray('views', () => open(__ENV.VIEWS).trim().split('\n'));
// As few metrics as will do: each costs the machine that is measured.
const likeMs = new Trend('like_ms');
const likeAt = new Trend('like_at');
const viewMs = new Trend('view_ms');
const viewAt = new Trend('view_at');

function together(vus, iterations, name) {
  return { executor: 'shared-iterations', vus, iterations, exec: name, maxDuration: '20m' };
}

export const options = {
  scenarios: {
    likes: together(Number(__ENV.LIKERS), likes.length, 'like'),
    views: together(Number(__ENV.WATCHERS), views.length, 'view'),
  },
  userAgent: __ENV.AGENT,
  discardResponseBodies: true,
  systemTags: ['scenario'],
  summaryTrendStats: ['avg', 'min', 'med', 'max', 'p(95)', 'p(99)'],
};

export function like() {
  const line = exec.scenario.iterationInTest;
  const [method, path, token] = likes[line].split(' ');
  if (line === 0) {
    likeAt.add(Date.now());
  }
  const response = http.request(method, __ENV.BASE + path, null, {
    headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
  });
  likeAt.add(Date.now());
  likeMs.add(response.timings.duration);
  if (response.status !== 200) {
    console.log(`like ${line} ${response.status}`);
  }
}

export function view() {
  const line = exec.scenario.iterationInTest;
  const [request, type, body] = views[line].split('\t');
  const [method, path] = request.split(' ');
  if (line === 0) {
    viewAt.add(Date.now());
  }
  const response = http.request(method, __ENV.BASE + path, body, {
    headers: { 'Content-Type': type }, responseType: 'text',
  });
  viewAt.add(Date.now());
  viewMs.add(response.timings.duration);
  if (response.status !== 200) {
    console.log(`view ${line} ${response.status}`);
  } else if (!response.body.includes('"counted":true') && !response.body.includes('"counted": true')) {
    console.log(`view ${line} uncounted`);
  }
}

export function handleSummary(data) {
  return { [__ENV.SUMMARY]: JSON.stringify(data) };
}
