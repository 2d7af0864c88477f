// An application of Node's http module: answers with the number of its process.
const http = require("http");

http
  .createServer((request, response) => {
    response.setHeader("Content-Type", "text/plain");
    response.end(String(process.pid));
  })
  .listen(Number(process.env.PORT), "127.0.0.1");
