#include "daemon/front/http.hpp"

#include <catch2/catch.hpp>

#include <optional>

namespace curvegate::daemon::front {
namespace {

ParsedRequest parse(std::string_view text) {
    return parse_request(as_bytes(text));
}
bool needs_more(std::string_view text) {
    return std::holds_alternative<NeedMore>(parse(text));
}
std::optional<HttpStatus> refusal(std::string_view text) {
    const auto parsed = parse(text);
    const auto* bad = std::get_if<BadRequest>(&parsed);
    return bad == nullptr ? std::nullopt : std::optional(bad->status);
}
bool is_bad(std::string_view text) {
    return refusal(text) == HttpStatus::bad_request;
}
HttpRequest good(std::string_view text) {
    const auto parsed = parse(text);
    REQUIRE(std::holds_alternative<HttpRequest>(parsed));
    return std::get<HttpRequest>(parsed);
}

constexpr std::string_view kUsual =
    "GET /metrics HTTP/1.1\r\nHost: localhost:9100\r\nUser-Agent: Prometheus/2.42.0\r\nAccept: */*\r\n\r\n";

TEST_CASE("Prometheus' request is read, and not before its end", "[daemon]") {
    for (std::size_t size = 0; size < kUsual.size(); ++size) CHECK(needs_more(kUsual.substr(0, size)));
    const auto request = good(kUsual);
    CHECK(request.method == "GET");
    CHECK(request.path == "/metrics");
    CHECK(request.host == "localhost:9100");
    CHECK(good(std::string(kUsual) + "GET /more").path == "/metrics");
    CHECK(good(std::string(kUsual) + std::string(10'000, '\n')).path == "/metrics");
}

TEST_CASE("what a request may look like", "[daemon]") {
    CHECK(good("GET /metrics?name=x HTTP/1.1\r\nHost:a\r\n\r\n").path == "/metrics");
    CHECK(good("HEAD / HTTP/1.1\r\nHOST: \t a \t\r\n\r\n").host == "a");
    CHECK(good("GET / HTTP/1.1\r\nHost:\r\n\r\n").host.empty());
    CHECK(good("GET / HTTP/1.0\r\n\r\n").host.empty());
    CHECK(good("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").host == "a");
    CHECK(good("GET / HTTP/1.1\r\nHost: a\r\nX: caf\xc3\xa9\ttab\r\n\r\n").host == "a");
    const auto absolute = good("GET HTTP://[::1]:9100/metrics?x HTTP/1.1\r\nHost: other\r\n\r\n");
    CHECK(absolute.host == "[::1]:9100");
    CHECK(absolute.path == "/metrics");
    CHECK(good("GET http://a HTTP/1.1\r\nHost: b\r\n\r\n").path == "/");
    CHECK(good("GET http://a?x HTTP/1.1\r\nHost: b\r\n\r\n").host == "a");
    CHECK(good("BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n").method == "BREW");
}

TEST_CASE("what is no request is told at its end", "[daemon]") {
    for (const std::string head :
         {"", "GET", "GET /", "GET / HTTP/2.0", "GET / HTTP/1.1 ", "GET  / HTTP/1.1", " GET / HTTP/1.1",
          "GET / http/1.1", "G(T / HTTP/1.1", "GET /a b HTTP/1.1", "GET * HTTP/1.1", "GET a HTTP/1.1",
          "CONNECT a:1 HTTP/1.1", "GET /caf\xc3\xa9 HTTP/1.1", "GET /\tx HTTP/1.1", "GET http:// HTTP/1.1"}) {
        CAPTURE(head);
        CHECK(is_bad(head + "\r\nHost: a\r\n\r\n"));
    }
    for (const std::string fields :
         {"", "X: y\r\n", "Host: a\r\nHost: a\r\n", "Host : a\r\n", "Host: a\r\n folded\r\n",
          "Host: a\r\nno colon\r\n", "Host: a\r\n: x\r\n", "Host: a b\r\n", "Host: caf\xc3\xa9\r\n",
          "Host: a\r\nTransfer-Encoding: chunked\r\n", "Host: a\r\nContent-Length: 1\r\n",
          "Host: a\r\nContent-Length: 0, 5\r\n", "Host: a\r\nX\xc3: y\r\n"}) {
        CAPTURE(fields);
        CHECK(is_bad("GET / HTTP/1.1\r\n" + fields + "\r\n"));
    }
}

TEST_CASE("what can never become a request is told at once", "[daemon]") {
    CHECK(is_bad("GET / HTTP/1.1\nHost: a\n\n"));
    CHECK(is_bad("GET / HTTP/1.1\r\r"));
    CHECK(is_bad("\n"));
    CHECK(is_bad("GET /\x7f"));
    CHECK(is_bad(std::string_view("GET /\0", 6)));
    CHECK(is_bad("\x16\x03\x01"));  // TLS
    CHECK(is_bad("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n"));
}

TEST_CASE("a request ends within 8 KiB", "[daemon]") {
    const auto with_size = [](std::size_t size) {
        const std::string head = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        return head + std::string(size - head.size() - 4, 'x') + "\r\n\r\n";
    };
    CHECK(good(with_size(kLongestRequest)).host == "a");
    CHECK(refusal(with_size(kLongestRequest + 1)) == HttpStatus::too_long);
    CHECK(refusal(with_size(1'000'000)) == HttpStatus::too_long);
    CHECK(needs_more(std::string(kLongestRequest - 1, 'x')));
    CHECK(refusal(std::string(kLongestRequest, 'x')) == HttpStatus::too_long);
}

TEST_CASE("only a loopback host is served", "[daemon]") {
    const auto status_of = [](std::string host, HttpDoor door = HttpDoor::loopback) {
        return judge({"GET", "/metrics", std::move(host)}, door);
    };
    for (const std::string host :
         {"localhost", "LocalHost", "localhost:9100", "localhost:", "127.0.0.1", "127.0.0.1:65535",
          "127.9.8.7", "[::1]", "[::1]:9100", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"}) {
        CAPTURE(host);
        CHECK(status_of(host) == HttpStatus::ok);
        CHECK(status_of(host, HttpDoor::unix_socket) == HttpStatus::ok);
    }
    for (const std::string host : {"evil.example",
                                   "localhost.evil.example",
                                   "evil.example:9100",
                                   "localhost.",
                                   "xlocalhost",
                                   "127.0.0.1.evil.example",
                                   "128.0.0.1",
                                   "0.0.0.0",
                                   "10.0.0.1:9100",
                                   "127.1",
                                   "2130706433",
                                   "0x7f.0.0.1",
                                   "127.0.0.01",
                                   "[::2]",
                                   "[::]",
                                   "[::1",
                                   "::1",
                                   "[127.0.0.1]",
                                   "[localhost]",
                                   "[::1]x",
                                   "[::1%lo]",
                                   "localhost:x",
                                   "localhost:123456",
                                   "localhost:1:2",
                                   "user@localhost",
                                   "localhost,evil",
                                   ":9100",
                                   "[]"}) {
        CAPTURE(host);
        CHECK(status_of(host) == HttpStatus::forbidden);
        CHECK(status_of(host, HttpDoor::unix_socket) == HttpStatus::forbidden);
    }
    CHECK(status_of("") == HttpStatus::forbidden);
    CHECK(status_of("", HttpDoor::unix_socket) == HttpStatus::ok);
}

TEST_CASE("there is one page, to get or to head", "[daemon]") {
    const auto status_of = [](std::string method, std::string path, std::string host = "localhost") {
        return judge({std::move(method), std::move(path), std::move(host)}, HttpDoor::loopback);
    };
    CHECK(status_of("GET", "/metrics") == HttpStatus::ok);
    CHECK(status_of("HEAD", "/metrics") == HttpStatus::ok);
    for (const std::string method : {"POST", "PUT", "DELETE", "OPTIONS", "get", "GETX"})
        CHECK(status_of(method, "/metrics") == HttpStatus::method_not_allowed);
    for (const std::string path : {"/", "/metrics/", "//metrics", "/Metrics", "/metrics/../x", "/%6detrics"})
        CHECK(status_of("GET", path) == HttpStatus::not_found);
    CHECK(status_of("POST", "/") == HttpStatus::not_found);
    CHECK(status_of("POST", "/", "evil.example") == HttpStatus::forbidden);
}

TEST_CASE("responses say how long they are and close", "[daemon]") {
    CHECK(respond(HttpStatus::ok, "GET", "a 1\n") ==
          "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 4\r\n"
          "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\na 1\n");
    CHECK(respond(HttpStatus::ok, "HEAD", "a 1\n").ends_with("Connection: close\r\n\r\n"));
    CHECK(respond(HttpStatus::ok, "HEAD", "a 1\n").contains("\r\nContent-Length: 4\r\n"));
    struct Case {
        HttpStatus status;
        std::string_view line;
    };
    for (const auto& [status, line] :
         {Case{HttpStatus::bad_request, "HTTP/1.1 400 Bad Request\r\n"},
          Case{HttpStatus::forbidden, "HTTP/1.1 403 Forbidden\r\n"},
          Case{HttpStatus::not_found, "HTTP/1.1 404 Not Found\r\n"},
          Case{HttpStatus::method_not_allowed, "HTTP/1.1 405 Method Not Allowed\r\n"},
          Case{HttpStatus::too_long, "HTTP/1.1 431 Request Header Fields Too Large\r\n"}}) {
        const auto reply = respond(status, "GET", "the page");
        CAPTURE(reply);
        CHECK(reply.starts_with(line));
        CHECK_FALSE(reply.contains("the page"));
        const auto content = reply.substr(reply.find("\r\n\r\n") + 4);
        CHECK(!content.empty());
        CHECK(reply.contains("\r\nContent-Length: " + std::to_string(content.size()) + "\r\n"));
        CHECK(reply.contains("\r\nAllow: GET, HEAD\r\n") == (status == HttpStatus::method_not_allowed));
    }
}

}  // namespace
}  // namespace curvegate::daemon::front
