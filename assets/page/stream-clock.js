// Maps times between a stream of the server, which begins with the first picture, and the player (engine/video_clock.py).

const NEAR_S = 0.1; // a browser stops a little before the last picture ends

export class StreamClock {
  #stream; #player;

  // Where the parts of the video's clock begin in the stream and for players, in milliseconds.
  constructor({ stream_starts_ms: stream, player_starts_ms: player }) {
    this.#stream = stream.map((ms) => ms / 1000);
    this.#player = player.map((ms) => ms / 1000);
  }

  /** What a player shows at the start of the stream. */
  get start() { return this.#player[0]; }

  toPlayer(seconds) { return map(seconds, this.#stream, this.#player); }

  /** Where a pause that players leave out ends in the stream; null outside of one. */
  endOfPause(seconds) {
    const index = Math.max(0, this.#stream.findLastIndex((start) => start <= seconds));
    const next = this.#stream[index + 1];
    const played = this.#stream[index] + this.#player[index + 1] - this.#player[index];
    return next - seconds > NEAR_S && seconds > played - NEAR_S ? next : null;
  }

  toStream(seconds) { return map(seconds, this.#player, this.#stream); }
}

function map(seconds, starts, others) {
  const index = Math.max(0, starts.findLastIndex((start) => start <= seconds)); // before the first part it is the first
  const other = seconds - starts[index] + others[index];
  return Math.max(0, Math.min(other, others[index + 1] ?? Infinity)); // one of the clocks may leave a pause out
}
