// <vtag-player>: plays a whole video with its sound, whatever its format. A plain ES module; importing it defines the
// element. What the browser can play comes as it is; the rest is repackaged or converted by the server while it plays
// (app/ui/media.py), through the page's own MediaSource.
//
// All times are seconds from the start of the file, as other players show them.
//
//   <vtag-player content="12" start="61.5" autoplay width="1920" height="1080"></vtag-player>
//
// Attributes
//   content      the id of the video; another one loads it, none unloads
//   start        where to begin; changed later, it seeks
//   autoplay     play as soon as possible
//   loop-start, loop-end   repeat this range; both or none
//   width, height          of the video if they are known, so that the element has its final shape at once
// Properties
//   currentTime (also to set), duration, frameRate, paused, muted, volume, playbackRate,
//   plan (of /media/ID/plan), way ("file", "copy", "convert"), message (what is done and why; "" for the file itself),
//   video (the HTMLVideoElement inside, for what is not here)
// Methods
//   play(), pause(), toggle(), seek(seconds), step(frames) (pauses), loop(start, end), loop() ends it
// Events, of the element itself (they do not bubble)
//   plan         the plan is known
//   way          `way` and `message` changed
//   timeupdate   at every drawn picture while it plays, and after a seek
//   play, pause, seeking, seeked, waiting, playing, ended, volumechange, ratechange, loadedmetadata   as of a video
//   error        detail.message: nothing can be played, and why
// Style: the element is a block. Inside are <video> and <p class="vtag-player-note" role="status">, which shows
// `message` or the error, and is hidden if there is none.

import { StreamClock } from "./stream-clock.js";

const AHEAD_S = 30; // as much is loaded ahead
const BEHIND_S = 60; // as much is kept behind
const FORGET_S = 20; // a stream from which nothing is needed for so long is given up
const SKIP_S = 3; // a seek ahead by up to so much waits for the running stream
const GAP_S = 0.3; // the browser is helped over smaller gaps
const SMALLEST_SIDE = 240; // pixels, of a converted picture
const FORWARDED = ["play", "pause", "seeking", "seeked", "waiting", "playing", "ended", "volumechange", "ratechange",
  "loadedmetadata"];
const Source = globalThis.ManagedMediaSource ?? globalThis.MediaSource; // Safari on phones has the first one only

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function supports(video, way) {
  if (way.way === "file") return video.canPlayType(way.type) !== "";
  return Boolean(Source?.isTypeSupported(way.type));
}

/** The end of the buffered range around `time`; `time` itself if it is not buffered. */
function bufferedEnd(buffered, time) {
  for (let i = 0; i < buffered.length; i++) {
    if (buffered.start(i) <= time + 0.1 && time <= buffered.end(i) + 0.05) return Math.max(time, buffered.end(i));
  }
  return time;
}

/** Fills a MediaSource from `way.url`, from where the video plays. Inside, times are those of the stream. */
class StreamSource {
  #video; #way; #duration; #clock; #offset; #fail; #media; #buffer = null; #request = null; #start;
  #isClosed = false; #idleSince = 0; #wake = () => {}; #end = null; #player = crypto.randomUUID?.() ?? `${Math.random()}`;
  #side = null; #stalls = []; #listeners = new AbortController();

  constructor(video, way, plan, clock, start, fail) {
    this.#video = video;
    this.#way = way;
    this.#duration = plan.duration_ms / 1000;
    this.#clock = clock;
    this.#offset = plan.stream_offset_s;
    this.#start = Math.min(clock.toStream(start), Math.max(0, this.#duration - 0.1));
    this.#fail = fail;
    this.#media = new Source();
    video.disableRemotePlayback = true; // ManagedMediaSource asks for it
    const address = URL.createObjectURL(this.#media);
    this.#media.addEventListener("sourceopen", () => { URL.revokeObjectURL(address); this.#open(); }, { once: true });
    video.src = address;
    const options = { signal: this.#listeners.signal };
    for (const type of ["timeupdate", "play", "seeked"]) video.addEventListener(type, () => this.#wake(), options);
    video.addEventListener("seeking", () => this.#onSeeking(), options);
    video.addEventListener("waiting", () => this.#onWaiting(), options);
    video.addEventListener("loadedmetadata", () => { if (this.#start > 0) video.currentTime = this.#start; this.#start = null; }, { ...options, once: true });
  }

  seek(playerTime) {
    const time = this.#clock.toStream(playerTime);
    if (this.#start === null) this.#video.currentTime = time;
    else { this.#start = time; this.#onSeeking(); }
  }

  get time() { return this.#clock.toPlayer(this.#time); }

  get #time() { return this.#start ?? this.#video.currentTime; }

  close() {
    this.#isClosed = true;
    this.#listeners.abort();
    this.#request?.abort.abort();
    this.#wake();
  }

  #open() {
    if (this.#isClosed) return;
    this.#buffer = this.#media.addSourceBuffer(this.#way.type);
    this.#buffer.timestampOffset = -this.#offset;
    this.#media.duration = this.#duration;
    this.#fill().catch((error) => { if (!this.#isClosed) this.#fail(error.message); });
  }

  async #fill() {
    while (!this.#isClosed) {
      this.#skipGap();
      const wanted = this.#wanted();
      if (wanted === null) {
        await this.#rest();
        continue;
      }
      this.#idleSince = 0;
      try {
        if (!this.#continues(wanted)) await this.#begin(wanted);
        await this.#read();
      } catch (error) {
        if (error.name !== "AbortError") throw error;
        this.#request = null;
      }
    }
  }

  /** Where the next bytes have to begin; null if enough is loaded. */
  #wanted() {
    const end = bufferedEnd(this.#buffer.buffered, this.#time);
    if (this.#end !== null && end >= this.#end - 0.1) {
      if (this.#media.readyState === "open") this.#media.endOfStream(); // also after a seek back has filled a gap
      return null;
    }
    return end - this.#time < AHEAD_S ? end : null;
  }

  #continues(wanted) {
    const ahead = this.#request ? wanted - this.#request.reached : Infinity;
    return ahead > -0.5 && ahead <= SKIP_S;
  }

  async #begin(from) {
    this.#request?.abort.abort();
    const abort = new AbortController();
    this.#request = { abort, from, reached: from, reader: null };
    const address = new URL(this.#way.url, document.baseURI);
    address.searchParams.set("from", from.toFixed(3));
    address.searchParams.set("player", this.#player);
    if (this.#side && this.#way.way === "convert") address.searchParams.set("side", this.#side);
    const answer = await fetch(address, { signal: abort.signal });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    this.#request.reader = answer.body.getReader();
    if (this.#media.readyState === "open") this.#buffer.abort(); // the parser may be within a fragment
    this.#buffer.timestampOffset = -this.#offset;
  }

  async #read() {
    const request = this.#request;
    const { done, value } = await request.reader.read();
    if (this.#request !== request || this.#isClosed) return;
    if (done) {
      this.#request = null;
      this.#finish(request);
      return;
    }
    await this.#append(value);
    request.reached = bufferedEnd(this.#buffer.buffered, request.reached);
    await this.#forget();
  }

  /** At the end of a stream: of the video, or of its process, which is begun again when it is needed. */
  #finish({ from, reached }) {
    const isEnd = reached > this.#duration - 1;
    if (!isEnd && reached > from) return;
    if (!isEnd && reached < this.#duration - 3) throw new Error("the video cannot be read from here on");
    this.#end = reached;
  }

  async #append(data) {
    for (;;) {
      try {
        await this.#change(() => this.#buffer.appendBuffer(data));
        return;
      } catch (error) {
        if (error.name !== "QuotaExceededError") throw error;
        await this.#change(() => this.#buffer.remove(0, Math.max(0.1, this.#time - 5)));
        await this.#change(() => this.#buffer.remove(this.#time + AHEAD_S * 2, Infinity));
        await sleep(500);
        if (this.#isClosed) return;
      }
    }
  }

  async #forget() {
    const { buffered } = this.#buffer;
    const keepFrom = this.#time - BEHIND_S;
    if (buffered.length && buffered.start(0) < keepFrom - 10) {
      await this.#change(() => this.#buffer.remove(0, keepFrom));
    }
  }

  /** Wait for an operation of the buffer. */
  #change(operation) {
    return new Promise((resolve, reject) => {
      const end = () => { this.#buffer.removeEventListener("error", fail); resolve(); };
      const fail = () => { this.#buffer.removeEventListener("updateend", end); reject(new Error("the browser cannot read the stream")); };
      operation();
      this.#buffer.addEventListener("updateend", end, { once: true });
      this.#buffer.addEventListener("error", fail, { once: true });
    });
  }

  /** Wait until something may be needed. A stream from which nothing is needed for long frees its process. */
  async #rest() {
    this.#idleSince ||= performance.now();
    if (this.#request && performance.now() - this.#idleSince > FORGET_S * 1000) {
      this.#request.abort.abort();
      this.#request = null;
    }
    await Promise.race([sleep(1000), new Promise((resolve) => { this.#wake = resolve; })]);
  }

  #onSeeking() {
    this.#wake();
    if (this.#buffer && !this.#continues(bufferedEnd(this.#buffer.buffered, this.#time))) this.#request?.abort.abort();
  }

  /** A converted picture that does not keep up becomes smaller. */
  #onWaiting() {
    this.#wake();
    if (this.#video.seeking || this.#start !== null || this.#way.way !== "convert") return;
    this.#stalls = [...this.#stalls.filter((at) => performance.now() - at < 60_000), performance.now()];
    if (this.#stalls.length < 2 || this.#side === SMALLEST_SIDE) return;
    this.#stalls = [];
    this.#side = Math.max(SMALLEST_SIDE, Math.round((this.#side ?? 720) * 0.6));
    this.#request?.abort.abort();
  }

  #skipGap() {
    const { buffered } = this.#buffer;
    const time = this.#time;
    if (this.#start !== null || this.#video.readyState > 2) return;
    const next = this.#clock.endOfPause(time);
    if (next !== null) this.#video.currentTime = next;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) > time && buffered.start(i) < time + GAP_S && bufferedEnd(buffered, time) === time) {
        this.#video.currentTime = buffered.start(i) + 0.001;
      }
    }
  }
}

/** Lets the browser play the file itself. */
class FileSource {
  #video; #offset; #start; #listeners = new AbortController();

  constructor(video, way, plan, clock, start) {
    this.#video = video;
    this.#offset = plan.file_offset_ms / 1000 - clock.start; // browsers do not begin a late file at 0
    this.#start = start;
    video.src = new URL(way.url, document.baseURI).href;
    video.addEventListener("loadedmetadata", () => {
      const time = this.#start + this.#offset;
      if (time > 0) this.#video.currentTime = time;
      this.#start = null;
    }, { once: true, signal: this.#listeners.signal });
  }

  get time() { return this.#start ?? this.#video.currentTime - this.#offset; }

  seek(time) {
    if (this.#start === null) this.#video.currentTime = time + this.#offset;
    else this.#start = time;
  }

  close() { this.#listeners.abort(); }
}

export class VtagPlayer extends HTMLElement {
  static observedAttributes = ["content", "start", "width", "height", "loop-start", "loop-end"];
  #video = document.createElement("video");
  #note = document.createElement("p");
  #source = null; #ways = []; #plan = null; #clock = null; #way = null; #loop = null; #loading = null; #frame = 0; #observer = null;
  #lastTime = -1; #autoplays = false;
  #isPlaying = false; // as the person wants it: another source pauses a video without an event

  constructor() {
    super();
    const video = this.#video;
    Object.assign(video, { controls: true, playsInline: true, preload: "auto" });
    Object.assign(this.#note, { className: "vtag-player-note", hidden: true });
    this.#note.setAttribute("role", "status");
    for (const type of FORWARDED) video.addEventListener(type, () => this.dispatchEvent(new Event(type)));
    for (const type of ["timeupdate", "seeked", "play"]) video.addEventListener(type, () => this.#tick());
    video.addEventListener("play", () => { this.#isPlaying = true; });
    video.addEventListener("pause", () => { this.#isPlaying = false; });
    video.addEventListener("error", () => this.#onError(video.error?.message || "the browser cannot play it"));
    video.addEventListener("loadedmetadata", () => { if (!video.videoWidth) this.#onError("the browser shows no picture"); });
  }

  connectedCallback() {
    if (!this.#video.isConnected) {
      this.style.display ||= "block";
      Object.assign(this.#video.style, { display: "block", width: "100%" });
      this.append(this.#video, this.#note);
    }
    this.#shape();
    this.#readLoop();
    // a player that is no longer shown is not heard either
    this.#observer = new IntersectionObserver(() => { if (!this.getClientRects().length) this.pause(); });
    this.#observer.observe(this);
    this.#load();
  }

  disconnectedCallback() {
    this.#observer?.disconnect();
    this.#unload();
  }

  attributeChangedCallback(name, before, after) {
    if (!this.isConnected || before === after) return;
    if (name === "content") this.#load();
    else if (name === "start") this.seek(Number(after) || 0);
    else if (name.startsWith("loop")) this.#readLoop();
    else this.#shape();
  }

  get video() { return this.#video; }
  get plan() { return this.#plan; }
  get way() { return this.#way?.way ?? ""; }
  get message() { return this.#way?.message ?? ""; }
  get duration() { return this.#clock?.toPlayer(this.#plan.duration_ms / 1000) ?? 0; }
  get frameRate() { return this.#plan?.frame_rate || 25; }
  get paused() { return this.#video.paused; }
  get currentTime() { return Math.max(0, this.#source?.time ?? this.#startTime()); }
  set currentTime(seconds) { this.seek(seconds); }
  get muted() { return this.#video.muted; }
  set muted(isMuted) { this.#video.muted = isMuted; }
  get volume() { return this.#video.volume; }
  set volume(volume) { this.#video.volume = volume; }
  get playbackRate() { return this.#video.playbackRate; }
  set playbackRate(rate) { this.#video.playbackRate = rate; }

  /** Play; a browser that forbids it without a click shows its own button. */
  play() { return this.#video.play().catch(() => {}); }
  pause() { this.#autoplays = false; this.#video.pause(); }
  toggle() { return this.paused ? this.play() : this.pause(); }

  seek(seconds) {
    const time = Math.max(0, this.duration ? Math.min(seconds, this.duration - 0.001) : seconds);
    if (this.#source) this.#source.seek(time);
    else this.setAttribute("start", time);
  }

  /** Pause, and show the picture so many frames ahead. */
  step(frames) {
    this.pause();
    const { currentTime, frameRate } = this;
    const shown = Math.floor((this.#clock?.toStream(currentTime) ?? currentTime) * frameRate + 1e-3);
    const time = (shown + frames + 0.5) / frameRate;
    this.seek(this.#clock?.toPlayer(time) ?? time);
  }

  loop(start, end) {
    this.#loop = end > start ? { start, end } : null;
    if (this.#loop && (this.currentTime < start || this.currentTime >= end)) this.seek(start);
  }

  #startTime() { return Number(this.getAttribute("start")) || 0; }

  #readLoop() {
    if (this.hasAttribute("loop-start") || this.#loop) {
      this.loop(Number(this.getAttribute("loop-start")), Number(this.getAttribute("loop-end")));
    }
  }

  #shape() {
    const width = this.#plan?.width ?? Number(this.getAttribute("width"));
    const height = this.#plan?.height ?? Number(this.getAttribute("height"));
    this.#video.style.aspectRatio = width && height ? `${width} / ${height}` : "16 / 9";
  }

  async #load() {
    this.#unload();
    const content = this.getAttribute("content");
    if (!content) return;
    this.#autoplays = this.hasAttribute("autoplay");
    const loading = this.#loading = new AbortController();
    try {
      const answer = await fetch(new URL(`media/${encodeURIComponent(content)}/plan`, document.baseURI), { signal: loading.signal });
      if (!answer.ok) throw new Error((await answer.text()).trim());
      this.#plan = await answer.json();
      this.#clock = new StreamClock(this.#plan);
    } catch (error) {
      if (!loading.signal.aborted) this.#show(error.message, true);
      return;
    }
    if (loading.signal.aborted) return;
    this.#shape();
    this.dispatchEvent(new Event("plan"));
    this.#ways = this.#plan.ways.filter((way) => supports(this.#video, way));
    this.#next(this.#startTime(), "This browser plays neither the video nor what vtag converts it to.");
    if (this.#autoplays && this.#way) this.play();
  }

  /** Play the next way from `time` on; say `reason` if there is none. */
  #next(time, reason) {
    this.#source?.close();
    this.#source = null;
    this.#way = this.#ways.shift() ?? null;
    this.dispatchEvent(new Event("way"));
    if (!this.#way) {
      this.#video.removeAttribute("src");
      this.#video.load();
      this.#show(reason, true);
      return;
    }
    this.#show(this.#way.message);
    const Kind = this.#way.way === "file" ? FileSource : StreamSource;
    const way = this.#way;
    this.#source = new Kind(this.#video, way, this.#plan, this.#clock, time, (message) => { if (this.#way === way) this.#onError(message); });
    if (this.#isPlaying) this.play();
  }

  #onError(reason) {
    if (this.#source) this.#next(this.currentTime, reason);
  }

  #unload() {
    this.#loading?.abort();
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#source?.close();
    this.#source = this.#plan = this.#clock = this.#way = null;
    this.#ways = [];
    this.#video.pause();
    this.#video.removeAttribute("src");
    this.#video.load();
    this.#show("");
  }

  #show(text, isError = false) {
    this.#note.textContent = text;
    this.#note.hidden = !text;
    if (isError) this.dispatchEvent(new CustomEvent("error", { detail: { message: text } }));
  }

  #tick() {
    cancelAnimationFrame(this.#frame);
    if (!this.isConnected || !this.#source) return;
    const time = this.currentTime;
    if (this.#loop && !this.#video.seeking && time >= this.#loop.end) this.seek(this.#loop.start);
    if (time !== this.#lastTime) {
      this.#lastTime = time;
      this.dispatchEvent(new Event("timeupdate"));
    }
    if (!this.paused) this.#frame = requestAnimationFrame(() => this.#tick());
  }
}

customElements.define("vtag-player", VtagPlayer);
