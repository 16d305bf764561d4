// Likes that arrive at a constant rate, whether or not the ones before them are answered. Each is a line on the console:
// "<Unix ms when it was sent> <ms until it was answered> <status>".
//
// LIKES    file: "<method> <path> <token>" a line, one for each like
// BASE, AGENT, RATE (a second), SECONDS, SUMMARY

import http from 'k6/http';
import exec from 'k6/execution';
import { SharedArray } from 'k6/data';

const likes = new SharedArray('likes', () => open(__ENV.LIKES).trim().split('\n'));

export const options = {
  scenarios: {
    likes: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.RATE),
      timeUnit: '1s',
      duration: `${__ENV.SECONDS}s`,
      preAllocatedVUs: 100,
      maxVUs: 1000,
      gracefulStop: '10s',
    },
  },
  userAgent: __ENV.AGENT,
  discardResponseBodies: true,
  systemTags: ['scenario'],
};

export default function () {
  const [method, path, token] = likes[exec.scenario.iterationInTest % likes.length].split(' ');
  const began = Date.now();
  const response = http.request(method, __ENV.BASE + path, null, {
    headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
  });
  console.log(`${began} ${response.timings.duration.toFixed(3)} ${response.status}`);
}

export function handleSummary(data) {
  return { [__ENV.SUMMARY]: JSON.stringify(data) };
}
