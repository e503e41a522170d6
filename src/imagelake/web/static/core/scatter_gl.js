// Points by WebGL 2: a buffer of places, one of colors, drawn as they are: the graphics card does the work.

const VERTEX = `#version 300 es
in vec2 place;
in vec4 tint;
uniform vec2 center;
uniform vec2 zoom;
uniform float size;
uniform float pass;
out vec4 color;
void main() {
  bool bright = tint.a > 0.5;
  gl_Position = vec4((place - center) * zoom, 0.0, 1.0);
  if (bright != (pass > 0.5)) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = size;
  color = tint;
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec4 color;
uniform float size;
out vec4 result;
void main() {
  float edge = (0.5 - length(gl_PointCoord - 0.5)) * size;
  if (edge <= 0.0) discard;
  float alpha = color.a * min(edge, 1.0);
  result = vec4(color.rgb * alpha, alpha);
}`;

const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

/** Whether points can be drawn so, and faster than without; tried on a canvas that nobody sees. */
export function canUseGl(any) {
  const gl = document.createElement("canvas").getContext("webgl2", { failIfMajorPerformanceCaveat: !any });
  if (!gl || !link(gl)) return false;
  const told = gl.getExtension("WEBGL_debug_renderer_info");
  const name = String(gl.getParameter(told ? told.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return any || !SOFTWARE.test(name);
}

/** What draws on a canvas: {kind, points(places), colors(rgba), draw(view)}; `lost()` when the graphics card is gone. */
export function glRenderer(canvas, lost = () => {}) {
  const gl = canvas.getContext("webgl2", { antialias: false, alpha: true, depth: false });
  const program = link(gl);
  const names = Object.fromEntries(["center", "zoom", "size", "pass"].map((name) => [name, gl.getUniformLocation(program, name)]));
  const places = buffer(gl, gl.getAttribLocation(program, "place"), 2, gl.FLOAT, false);
  const tints = buffer(gl, gl.getAttribLocation(program, "tint"), 4, gl.UNSIGNED_BYTE, true);
  let count = 0;
  gl.useProgram(program);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); lost(); }, { once: true });
  return {
    kind: "webgl",
    points(xy) {
      count = xy.length / 2;
      fill(gl, places, xy);
    },
    colors: (rgba) => fill(gl, tints, rgba),
    draw({ x, y, scale, width, height, ratio, size }) {
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniform2f(names.center, x, y);
      gl.uniform2f(names.zoom, (2 * scale) / width, (2 * scale) / height);
      gl.uniform1f(names.size, size * ratio);
      for (const pass of [0, 1]) {
        gl.uniform1f(names.pass, pass);
        if (count) gl.drawArrays(gl.POINTS, 0, count);
      }
    },
  };
}

function link(gl) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  return gl.getProgramParameter(program, gl.LINK_STATUS) ? program : null;
}

function buffer(gl, place, size, type, normalized) {
  const made = gl.createBuffer();
  gl.bindBuffer(gl.ARRAY_BUFFER, made);
  gl.enableVertexAttribArray(place);
  gl.vertexAttribPointer(place, size, type, normalized, 0, 0);
  return made;
}

function fill(gl, made, values) {
  gl.bindBuffer(gl.ARRAY_BUFFER, made);
  gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
}
