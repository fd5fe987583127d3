// How long to wait before the next attempt to connect. No DOM, no clock: chance is passed in.

export const FIRST = 0.5; // seconds
export const MOST = 30;

/** Seconds before attempt number `attempt` (0 is the first after a loss): doubling, half of it at random. */
export function delayAfter(attempt, random, { first = FIRST, most = MOST } = {}) {
  const whole = Math.min(most, first * 2 ** Math.min(attempt, 30));
  return whole / 2 + (random() * whole) / 2;
}
