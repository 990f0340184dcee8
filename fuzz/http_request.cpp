// The metrics page's requests: what was decided stays decided whatever follows, and only a loopback host is
// served.
#include "daemon/front/http.hpp"
#include "harness.hpp"

using namespace curvegate;
using namespace curvegate::daemon::front;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    const auto parsed = parse_request(input);
    for (std::size_t shorter = 0; shorter < std::min<std::size_t>(size, 512); ++shorter) {
        const auto earlier = parse_request(Bytes(input).first(shorter));
        if (std::holds_alternative<NeedMore>(earlier)) continue;
        fuzz::must(earlier.index() == parsed.index());
        if (const auto* bad = std::get_if<BadRequest>(&earlier))
            fuzz::must(bad->status == std::get<BadRequest>(parsed).status);
    }
    fuzz::must(!std::holds_alternative<NeedMore>(parsed) || size < kLongestRequest);
    if (const auto* bad = std::get_if<BadRequest>(&parsed))
        fuzz::must(bad->status == HttpStatus::bad_request || bad->status == HttpStatus::too_long);
    const auto* request = std::get_if<HttpRequest>(&parsed);
    if (request == nullptr) return 0;
    fuzz::must(!request->method.empty() && request->path.starts_with('/'));
    for (const char c : request->method + request->path + request->host) fuzz::must(c > 0x20 && c < 0x7f);
    const auto over_tcp = judge(*request, HttpDoor::loopback);
    const auto over_unix = judge(*request, HttpDoor::unix_socket);
    if (over_tcp == HttpStatus::ok) {
        fuzz::must(request->path == "/metrics" && (request->method == "GET" || request->method == "HEAD"));
        fuzz::must(!request->host.empty());
        const char first = request->host.front();
        fuzz::must(first == '1' || first == '[' || first == 'l' || first == 'L');
    }
    fuzz::must(over_tcp == over_unix || (request->host.empty() && over_tcp == HttpStatus::forbidden));
    const auto reply = respond(over_tcp, request->method, "page\n");
    fuzz::must(reply.starts_with("HTTP/1.1 ") && reply.contains("\r\n\r\n"));
    return 0;
}
