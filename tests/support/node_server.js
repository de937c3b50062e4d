// Node's http or http2 as a back-end server: `node node_server.js PORT MODULE`. It ends when its standard input does.
"use strict";

const http = require(process.argv[3]);
const zlib = require("zlib");

let connections = 0;
const numbers = new WeakMap();

const paths = {
  "/hello": (request, response) => response.end("hello"),
  "/chunked": (request, response) => {
    for (let i = 0; i < 50; i++) response.write(String(i).repeat(100));
    response.end();
  },
  "/trailers": (request, response) => {
    response.writeHead(200, { Trailer: "X-Sum" });
    response.write("body");
    response.addTrailers({ "X-Sum": "4" });
    response.end();
  },
  "/gzip": (request, response) => {
    response.setHeader("Content-Encoding", "gzip");
    response.end(zlib.gzipSync("zip ".repeat(1000)));
  },
  "/none": (request, response) => {
    response.statusCode = 204;
    response.end();
  },
  "/same": (request, response) => {
    response.statusCode = request.headers["if-none-match"] === '"1"' ? 304 : 200;
    response.setHeader("ETag", '"1"');
    response.end(response.statusCode === 200 ? "same" : undefined);
  },
  "/hints": (request, response) => {
    response.writeEarlyHints({ link: "</style.css>; rel=preload" });
    response.end("hinted");
  },
  "/cookies": (request, response) => {
    response.setHeader("Set-Cookie", ["a=1", "b=2"]);
    response.end();
  },
  "/error": (request, response) => {
    response.statusCode = 500;
    response.end("broken");
  },
  "/destroy": (request, response) => {
    response.write("half");
    setTimeout(() => response.destroy(), 50);
  },
  "/sink": (request, response) => {
    let size = 0;
    request.on("data", (piece) => (size += piece.length));
    request.on("end", () => response.end(JSON.stringify({ size, framing: request.headers })));
  },
  "/mirror": (request, response) => request.pipe(response),
};

const options = process.argv[3] === "http2" ? { settings: { enableConnectProtocol: true } } : {};
const server = http.createServer(options, (request, response) => {
  response.setHeader("X-Connection", numbers.get(request.stream ? request.stream.session : request.socket));
  (paths[request.url] || ((_, answer) => { answer.statusCode = 404; answer.end(); }))(request, response);
});
// A WebSocket over HTTP/2 (RFC 8441): what comes goes back.
server.on("connect", (request, response) => {
  if (!request.stream || request.headers[":protocol"] !== "websocket") return response.end();
  request.stream.respond({ ":status": 200 });
  request.stream.pipe(request.stream);
});
server.on(process.argv[3] === "http2" ? "session" : "connection", (one) => numbers.set(one, ++connections));
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]), "127.0.0.1");
process.stdin.resume().on("end", () => process.exit(0));
