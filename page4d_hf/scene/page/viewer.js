/* Shows moving 3D Gaussians in WebGL 2, as page4d's rasteriser draws them: EWA projection with the pixel filter of
   gsplat, spherical harmonics, alpha blending in the order of depth. The world is page4d-4dgs's or that of `points_page`;
   a camera has OpenCV axes (x right, y down, z forward).

   The address may end in #time=0.5&view=3&bare: the instant, the training camera, and no controls. */
"use strict";

const VERTEX_SHADER = `#version 300 es
precision highp float;
uniform highp sampler2D gaussians;  // 4 texels each: centre and opacity, quaternion (xyzw), scales, colour
uniform highp sampler2D harmonics;  // 16 texels each: coefficients from degree 1 on, one RGB each
uniform vec2 harmonicsRange;        // of those coefficients
uniform int degree;
uniform mat3 rotation;              // world to camera
uniform vec3 eye;                   // the camera's centre
uniform float focal;                // pixels
uniform vec2 size;                  // of the canvas, pixels
uniform float filterVariance;       // pixels squared: nothing is drawn thinner
in uint which;
out vec3 colour;
out vec2 place;                     // in standard deviations from the centre
out float opacity;

vec4 texel(highp sampler2D from, int index, int perGaussian) {
  int at = index * perGaussian, width = textureSize(from, 0).x;
  return texelFetch(from, ivec2(at % width, at / width), 0);
}

vec3 coefficient(int k) {
  int at = int(which) * 16 + k - 1, width = textureSize(harmonics, 0).x;
  return mix(vec3(harmonicsRange.x), vec3(harmonicsRange.y), texelFetch(harmonics, ivec2(at % width, at / width), 0).rgb);
}

vec3 towards(vec3 d) {  // the harmonics of degree 1 to 3 in a direction
  float x = d.x, y = d.y, z = d.z;
  vec3 sum = vec3(0.0);
  if (degree > 0) sum += 0.4886025119 * (-y * coefficient(1) + z * coefficient(2) - x * coefficient(3));
  if (degree > 1) sum += 1.0925484306 * (x * y * coefficient(4) - y * z * coefficient(5) - x * z * coefficient(7))
    + 0.3153915653 * (3.0 * z * z - 1.0) * coefficient(6) + 0.5462742153 * (x * x - y * y) * coefficient(8);
  if (degree > 2) sum += -0.5900435899 * (y * (3.0 * x * x - y * y) * coefficient(9) + x * (x * x - 3.0 * y * y) * coefficient(15))
    + 2.8906114426 * x * y * z * coefficient(10)
    - 0.4570457995 * (5.0 * z * z - 1.0) * (y * coefficient(11) + x * coefficient(13))
    + 0.3731763326 * z * (5.0 * z * z - 3.0) * coefficient(12) + 1.4453057213 * z * (x * x - y * y) * coefficient(14);
  return sum;
}

void main() {
  int index = int(which) * 4, width = textureSize(gaussians, 0).x;
  ivec2 at = ivec2(index % width, index / width);
  vec4 centre = texelFetch(gaussians, at, 0);
  vec4 q = texelFetch(gaussians, at + ivec2(1, 0), 0);
  vec3 scales = texelFetch(gaussians, at + ivec2(2, 0), 0).xyz;
  vec3 p = rotation * (centre.xyz - eye);
  opacity = centre.w;
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);  // outside: not drawn
  if (p.z < 0.01 || opacity < 1.0 / 255.0) return;

  mat3 turned = mat3(  // columns
    1.0 - 2.0 * (q.y * q.y + q.z * q.z), 2.0 * (q.x * q.y + q.w * q.z), 2.0 * (q.x * q.z - q.w * q.y),
    2.0 * (q.x * q.y - q.w * q.z), 1.0 - 2.0 * (q.x * q.x + q.z * q.z), 2.0 * (q.y * q.z + q.w * q.x),
    2.0 * (q.x * q.z + q.w * q.y), 2.0 * (q.y * q.z - q.w * q.x), 1.0 - 2.0 * (q.x * q.x + q.y * q.y));
  mat3 root = rotation * turned * mat3(scales.x, 0.0, 0.0, 0.0, scales.y, 0.0, 0.0, 0.0, scales.z);
  // The Jacobian is taken no further out than 0.15 of the canvas beyond its border.
  vec2 limit = 0.65 * size / focal;
  vec2 slope = clamp(p.xy / p.z, -limit, limit);
  vec3 first = focal / p.z * vec3(1.0, 0.0, -slope.x) * root, second = focal / p.z * vec3(0.0, 1.0, -slope.y) * root;
  float xx = dot(first, first) + filterVariance, yy = dot(second, second) + filterVariance, xy = dot(first, second);

  // Axes of the ellipse, and how far out it is still worth a 255th.
  float middle = 0.5 * (xx + yy), spread = length(vec2(0.5 * (xx - yy), xy));
  vec2 axis = spread < 1e-6 * middle ? vec2(1.0, 0.0)
    : xx > yy ? normalize(vec2(0.5 * (xx - yy) + spread, xy)) : normalize(vec2(xy, 0.5 * (yy - xx) + spread));
  float reach = sqrt(2.0 * log(255.0 * opacity));
  place = reach * (vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0);
  vec2 offset = place.x * sqrt(middle + spread) * axis
    + place.y * sqrt(max(middle - spread, filterVariance)) * vec2(-axis.y, axis.x);
  vec2 pixel = focal * p.xy / p.z + offset;  // from the canvas's middle
  gl_Position = vec4(2.0 * pixel / size * vec2(1.0, -1.0), 0.0, 1.0);
  colour = max(vec3(0.0), texelFetch(gaussians, at + ivec2(3, 0), 0).rgb + towards(normalize(centre.xyz - eye)));
}`;

const FRAGMENT_SHADER = `#version 300 es
precision highp float;
in vec3 colour;
in vec2 place;
in float opacity;
out vec4 drawn;
void main() {
  float alpha = min(0.999, opacity * exp(-0.5 * dot(place, place)));
  if (alpha < 1.0 / 255.0) discard;
  drawn = vec4(colour * alpha, alpha);
}`;

const FILTER = 0.3;  // pixels squared, of an image of the training's size
const LOST = "The graphics card dropped this page; load it again.";
const element = (id) => document.getElementById(id);

/* ------------------------------------------------------------------------------------------------ small mathematics */

const add = (a, b, factor = 1) => a.map((value, i) => value + factor * b[i]);
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((value) => value / Math.hypot(...a));
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function turn(vector, axis, angle) {  // Rodrigues' rotation
  const c = Math.cos(angle), s = Math.sin(angle), across = cross(axis, vector), along = dot(axis, vector) * (1 - c);
  return vector.map((value, i) => value * c + across[i] * s + axis[i] * along);
}

/* -------------------------------------------------------------------------------------------------- reading the scene */

async function unpack(text) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/* The arrays of the scene by group and name: {values [frames][channels][count], frames, most}. A file holds differences from
   frame to frame, and of numbers of two bytes all low ones, then all high ones, as that packs better. */
function arraysOf(header, bytes) {
  const groups = { moving: {}, still: {} };
  let at = 0;
  for (const { group, name, frames, channels, most } of header.arrays) {
    const stride = channels * header[group], size = frames * stride, wide = most > 255;
    const values = wide ? new Uint16Array(size) : new Uint8Array(size);
    for (let i = 0; i < size; i++) values[i] = wide ? bytes[at + i] | bytes[at + size + i] << 8 : bytes[at + i];
    for (let i = stride; i < size; i++) values[i] += values[i - stride];  // wraps around, as it did when it was written
    groups[group][name] = { values, frames, most };
    at += wide ? 2 * size : size;
  }
  return groups;
}

/* What the graphics card gets of Gaussians: 16 floats each. `write` fills in those of a group at a time. */
class Gaussians {
  constructor(header, groups) {
    this.header = header;
    this.groups = groups;
    this.moving = header.moving;
    this.count = header.moving + header.still;
    this.width = 2048;
    this.rows = Math.max(1, Math.ceil(this.count * 4 / this.width));
    this.texels = new Float32Array(this.width * this.rows * 4);
    this.write("still", 0);
  }

  write(group, time) {
    const { times, ranges, chunk, boxes } = this.header, arrays = this.groups[group], texels = this.texels;
    const count = this.header[group], first = group === "moving" ? 0 : this.moving;
    if (count === 0) return;
    let before = 0;
    while (before < times.length - 2 && times[before + 1] <= time) before++;
    const after = Math.min(before + 1, times.length - 1);
    const share = after > before ? clamp((time - times[before]) / (times[after] - times[before]), 0, 1) : 0;

    // The number that is stored for a channel of a Gaussian, between two keyframes, as a share of its range.
    const reader = (name, channels) => {
      const { values, frames, most } = arrays[name];
      const a = frames > 1 ? before * channels * count : 0, b = frames > 1 ? after * channels * count : 0;
      return (channel, n) => {
        const i = channel * count + n;
        return (values[a + i] * (1 - share) + values[b + i] * share) / most;
      };
    };
    const position = reader("position", 3), rotation = reader("rotation", 4), scale = reader("scale", 3);
    const opacity = reader("opacity", 1), colour = reader("colour", 3);
    const between = (range, value) => range[0] + value * (range[1] - range[0]);
    for (let n = 0; n < count; n++) {
      const at = 16 * (first + n), box = boxes[group][Math.floor(n / chunk)];
      texels[at + 3] = opacity(0, n);
      if (texels[at + 3] === 0) continue;  // it is not drawn, wherever it was
      for (let i = 0; i < 3; i++) {
        texels[at + i] = box[i] + position(i, n) * box[3 + i];
        texels[at + 8 + i] = Math.exp(between(ranges.scale, scale(i, n)));
        texels[at + 12 + i] = between(ranges.colour, colour(i, n));
      }
      let length = 0;
      for (let i = 0; i < 4; i++) length += (texels[at + 4 + i] = 2 * rotation(i, n) - 1) ** 2;
      for (let i = 0; i < 4; i++) texels[at + 4 + i] /= Math.sqrt(length);
    }
  }

  /* Coefficients of harmonics as RGBA bytes, 16 texels for each Gaussian. */
  harmonics() {
    const width = 4096, bases = (this.header.degree + 1) ** 2 - 1;
    if (bases === 0) return { width: 1, rows: 1, texels: new Uint8Array(4) };
    const rows = Math.max(1, Math.ceil(this.count * 16 / width)), texels = new Uint8Array(width * rows * 4);
    for (const [group, first] of [["moving", 0], ["still", this.moving]]) {
      const count = this.header[group];
      if (count === 0) continue;
      const { values } = this.groups[group].harmonics;
      for (let channel = 0; channel < 3 * bases; channel++) {
        const to = 4 * Math.floor(channel / 3) + channel % 3;
        for (let n = 0; n < count; n++) texels[64 * (first + n) + to] = values[channel * count + n];
      }
    }
    return { width, rows, texels };
  }
}

/* Indices of Gaussians from the farthest to the nearest. Depths are positive floats, which sort like their bits: a radix
   sort of 2 x 16 bits, which keeps the order of equal ones. */
class DepthOrder {
  constructor(count) {
    this.keys = new Uint32Array(count);
    this.floats = new Float32Array(this.keys.buffer);
    this.order = [new Uint32Array(count), new Uint32Array(count)];
    this.places = new Uint32Array(65536);
  }

  sort(texels, count, eye, forward) {
    const { keys, floats, places } = this, [first, second] = this.order;
    let seen = 0;
    for (let n = 0, at = 0; n < count; n++, at += 16) {
      const depth = (texels[at] - eye[0]) * forward[0] + (texels[at + 1] - eye[1]) * forward[1]
        + (texels[at + 2] - eye[2]) * forward[2];
      if (!(depth >= 0.01) || texels[at + 3] === 0) continue;
      floats[n] = depth;
      first[seen++] = n;
    }
    for (const [shift, from, to] of [[0, first, second], [16, second, first]]) {
      places.fill(0);
      for (let i = 0; i < seen; i++) places[65535 - (keys[from[i]] >>> shift & 65535)]++;
      for (let i = 0, sum = 0; i < 65536; i++) { const here = places[i]; places[i] = sum; sum += here; }
      for (let i = 0; i < seen; i++) to[places[65535 - (keys[from[i]] >>> shift & 65535)]++] = from[i];
    }
    return first.subarray(0, seen);
  }
}

/* ----------------------------------------------------------------------------------------------------------- drawing */

class Renderer {
  constructor(canvas, header, gaussians) {
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: false, powerPreference: "high-performance" });
    if (!gl) throw new Error("This page needs WebGL 2, which this browser does not offer; open it in a current Chrome, Edge, Firefox or Safari with hardware acceleration switched on.");
    Object.assign(this, { gl, canvas, header, gaussians });
    const most = gl.getParameter(gl.MAX_TEXTURE_SIZE), harmonics = gaussians.harmonics();
    if (Math.max(gaussians.width, gaussians.rows, harmonics.width, harmonics.rows) > most)
      throw new Error(`This scene has ${gaussians.count} Gaussians, more than this device's graphics can hold.`);
    const program = this.program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    this.uniform = (name) => gl.getUniformLocation(program, name);

    this.texture(1, gl.RGBA8, gl.UNSIGNED_BYTE, harmonics);
    this.texture(0, gl.RGBA32F, gl.FLOAT, gaussians);  // the last: it stays bound, for `update`
    gl.uniform1i(this.uniform("gaussians"), 0);
    gl.uniform1i(this.uniform("harmonics"), 1);
    gl.uniform2fv(this.uniform("harmonicsRange"), header.ranges.harmonics);
    gl.uniform1i(this.uniform("degree"), header.degree);

    gl.bindVertexArray(gl.createVertexArray());
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    const which = gl.getAttribLocation(program, "which");
    gl.enableVertexAttribArray(which);
    gl.vertexAttribIPointer(which, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(which, 1);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.clearColor(...header.background, 1);
    this.depthOrder = new DepthOrder(gaussians.count);
  }

  texture(unit, format, type, { width, rows, texels }) {
    const gl = this.gl;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texStorage2D(gl.TEXTURE_2D, 1, format, width, rows);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, width, rows, gl.RGBA, type, texels);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
  }

  update(time) {
    const { gl, gaussians } = this;
    if (gaussians.moving === 0) return;
    gaussians.write("moving", time);
    const rows = Math.ceil(gaussians.moving * 4 / gaussians.width);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, gaussians.width, rows, gl.RGBA, gl.FLOAT, gaussians.texels);
  }

  draw({ eye, right, down, forward, focal }) {
    const { gl, canvas, header, gaussians } = this, { width, height } = canvas;
    // All of what was filmed is to be seen; on a phone held upright, three quarters of its width, and larger.
    const across = width / header.size[0], along = height / header.size[1];
    const scale = Math.min(across * (width < height ? 4 / 3 : 1), along);
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniformMatrix3fv(this.uniform("rotation"), true, [...right, ...down, ...forward]);
    gl.uniform3fv(this.uniform("eye"), eye);
    gl.uniform2f(this.uniform("size"), width, height);
    gl.uniform1f(this.uniform("focal"), focal * scale);
    gl.uniform1f(this.uniform("filterVariance"), FILTER * Math.max(1, scale * scale));
    const order = this.depthOrder.sort(gaussians.texels, gaussians.count, eye, forward);
    gl.bufferData(gl.ARRAY_BUFFER, order, gl.STREAM_DRAW);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, order.length);
  }
}

/* ----------------------------------------------------------------------------------------------------------- cameras */

/* A camera that turns around a point. Its axes are those of OpenCV. */
class Orbit {
  constructor(header) {
    const { poseTimes } = this.header = header;
    this.filmed = [...poseTimes.keys()].filter((i) => poseTimes[i] !== poseTimes[i - 1]);  // of a rig, one each instant
    this.look(header.open);
  }

  static pose(p) {  // of 12 numbers, a camera-to-world matrix by rows
    return { right: [p[0], p[4], p[8]], down: [p[1], p[5], p[9]], forward: [p[2], p[6], p[10]], eye: [p[3], p[7], p[11]] };
  }

  look(view) {
    const start = Orbit.pose(this.header.poses[view]);
    Object.assign(this, start, {
      focal: this.header.focals[view], distance: this.header.distance, level: start.down, pitch: 0,
    });
    this.target = add(this.eye, this.forward, this.distance);
  }

  place() { this.eye = add(this.target, this.forward, -this.distance); }

  rotate(across, along) {  // angles
    const tilt = clamp(this.pitch + along, -1.5, 1.5) - this.pitch;
    this.pitch += tilt;
    for (const [axis, angle] of [[this.level, across], [null, -tilt]])
      for (const name of ["right", "down", "forward"]) this[name] = unit(turn(this[name], axis ?? this.right, angle));
    this.place();
  }

  pan(x, y) {  // in units of the distance
    this.target = add(add(this.target, this.right, -x * this.distance), this.down, -y * this.distance);
    this.place();
  }

  zoom(factor) {
    this.distance = clamp(this.distance * factor, 0.02 * this.header.distance, 50 * this.header.distance);
    this.place();
  }

  /* To where the scene was filmed from at a time: positions linear between views, rotations orthonormalised. */
  follow(time) {
    const { poses, poseTimes, focals } = this.header, filmed = this.filmed, last = filmed.length - 1;
    let place = 0;
    while (place < last - 1 && poseTimes[filmed[place + 1]] <= time) place++;
    const before = filmed[place], after = filmed[Math.min(place + 1, last)], length = poseTimes[after] - poseTimes[before];
    const share = length > 0 ? clamp((time - poseTimes[before]) / length, 0, 1) : 0;
    const pose = Orbit.pose(poses[before].map((value, i) => value * (1 - share) + poses[after][i] * share));
    this.forward = unit(pose.forward);
    this.right = unit(cross(pose.down, this.forward));
    this.down = cross(this.forward, this.right);
    this.focal = focals[before] * (1 - share) + focals[after] * share;
    Object.assign(this, { eye: pose.eye, level: this.down, pitch: 0, distance: this.header.distance });
    this.target = add(this.eye, this.forward, this.distance);
  }
}

/* ---------------------------------------------------------------------------------------------------------- the page */

class Page {
  constructor(header, renderer) {
    Object.assign(this, { header, renderer, canvas: renderer.canvas, orbit: new Orbit(header), time: 0, playing: false });
    // Where nothing moves, time passes for the camera that filmed alone.
    const times = header.moving > 0 ? header.times : this.orbit.filmed.map((view) => header.poseTimes[view]);
    this.first = times[0];
    this.length = times[times.length - 1] - times[0] || 1;
    this.stale = true;   // the picture
    this.passed = null;  // when the last picture was drawn, in a scene that plays
    this.pointers = new Map();
    this.listen();
    this.obey(new URLSearchParams(location.hash.slice(1)));
    this.renderer.update(this.time);
    requestAnimationFrame((now) => this.frame(now));
  }

  obey(wishes) {
    const view = Number(wishes.get("view"));
    if (wishes.has("view") && this.header.poses[view]) {
      element("filmed").checked = false;
      this.orbit.look(view);
    }
    const time = parseFloat(wishes.get("time"));
    const still = Number.isFinite(time) || matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.show(Number.isFinite(time) ? clamp(time, 0, 1) : this.first);
    this.play(!still);
    element("controls").hidden = element("heading").hidden = wishes.has("bare");
  }

  /* Whether anything changes over time. */
  changes() { return this.header.moving > 0 || element("filmed").checked && this.orbit.filmed.length > 1; }

  play(wish) {
    const on = this.playing = wish && this.changes();
    this.passed = null;
    element("playing").setAttribute("d", on ? "M7 5h4v14H7zm6 0h4v14h-4z" : "M8 5v14l11-7z");
    element("play").setAttribute("aria-label", on ? "Pause" : "Play");
  }

  show(time) {
    this.time = time;
    this.renderer.update(time);
    if (element("filmed").checked) this.orbit.follow(time);
    const { seconds } = this.header, share = clamp((time - this.first) / this.length, 0, 1);
    for (const id of ["play", "time", "clock"]) element(id).hidden = !this.changes();
    element("time").value = time;
    element("time").style.setProperty("--done", `${100 * share}%`);
    element("clock").textContent = `${(share * seconds).toFixed(1)} s`;
    this.stale = true;
  }

  frame(now) {
    if (this.playing) {
      if (this.passed !== null) {
        const { first, length } = this, passed = (now - this.passed) / 1000 / this.header.seconds;
        this.show(first + (this.time - first + passed * length) % length);
      }
      this.passed = now;
    }
    const density = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(this.canvas.clientWidth * density)), height = Math.max(1, Math.round(this.canvas.clientHeight * density));
    if (this.canvas.width !== width || this.canvas.height !== height) {
      Object.assign(this.canvas, { width, height });
      this.stale = true;
    }
    if (this.stale) this.renderer.draw(this.orbit);
    this.stale = false;
    requestAnimationFrame((next) => this.frame(next));
  }

  move(action) {
    if (element("filmed").checked) element("filmed").click();
    document.body.classList.add("moved");
    action();
    this.stale = true;
  }

  listen() {
    const { canvas, orbit, pointers } = this;
    element("play").onclick = () => this.play(!this.playing);
    element("time").oninput = (event) => { this.play(false); this.show(Number(event.target.value)); };
    element("filmed").onchange = () => {
      if (!this.changes()) this.play(false);
      this.show(this.time);
    };
    element("reset").onclick = () => this.move(() => orbit.look(this.header.open));
    element("whole").hidden = !document.fullscreenEnabled;
    element("whole").onclick = () => document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen();
    addEventListener("hashchange", () => this.obey(new URLSearchParams(location.hash.slice(1))));
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      const pressed = (event.key > "~" ? event.code.replace("Key", "") : event.key).toLowerCase();  // by place, if not Latin
      if (pressed === " " && !event.target.closest("button, [type=checkbox]")) {  // those it presses
        event.preventDefault();
        this.play(!this.playing);
      }
      for (const [key, id] of [["r", "reset"], ["c", "filmed"], ["f", "whole"]]) if (pressed === key && !element(id).hidden) element(id).click();
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.move(() => orbit.zoom(Math.exp(clamp(event.deltaY, -200, 200) / 500)));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      const from = pointers.get(event.pointerId);
      if (!from) return;
      const to = [event.clientX, event.clientY], [x, y] = add(to, from, -1), side = Math.min(canvas.clientWidth, canvas.clientHeight);
      const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
      pointers.set(event.pointerId, to);
      const drag = 0.9 * Math.max(...this.header.size) / orbit.focal / side;
      this.move(() => {
        if (other) {  // two fingers: pinch, and pan by the mean of both
          orbit.zoom(Math.hypot(...add(from, other, -1)) / Math.max(1, Math.hypot(...add(to, other, -1))));
          orbit.pan(x / 2 * drag, y / 2 * drag);
        } else if (event.buttons & 2 || event.shiftKey || event.ctrlKey) orbit.pan(x * drag, y * drag);
        else orbit.rotate(3 * x / side, 3 * y / side);
      });
    });
  }
}

async function open() {
  window.onerror = null;  // of scripts that cannot be read
  try {
    if (!window.DecompressionStream) throw new Error("This page needs a browser from 2023 or later (it has no DecompressionStream); open it in a current Chrome, Edge, Firefox or Safari.");
    const header = JSON.parse(element("header").textContent);
    const gaussians = new Gaussians(header, arraysOf(header, await unpack(element("scene").textContent)));
    const renderer = new Renderer(element("canvas"), header, gaussians);
    element("canvas").addEventListener("webglcontextlost", () => { element("message").textContent = LOST; });
    window.page4d = new Page(header, renderer);
    element("message").textContent = "";
    document.documentElement.dataset.ready = "true";
  } catch (error) {
    element("controls").hidden = element("heading").hidden = true;
    // Whatever a lost context made fail says nothing of the cause.
    const lost = element("canvas").getContext("webgl2")?.isContextLost();
    element("message").textContent = lost ? LOST : error.message;
  }
}
open();
