#include "daemon/front/http.hpp"

#include "base/ip.hpp"
#include "status/prometheus.hpp"

#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/http.hpp>

#include <algorithm>
#include <optional>

namespace curvegate::daemon::front {
namespace {

namespace http = boost::beast::http;
using boost::beast::error_code;

using Parser = http::request_parser<http::empty_body>;

bool same_word(std::string_view a, std::string_view b) noexcept {
    return boost::beast::iequals(a, b);
}
bool is_digit(char c) noexcept {
    return c >= '0' && c <= '9';
}
bool is_visible(std::string_view text) noexcept {
    return std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

/// A field that goes on in the next line (RFC 9112 5.2), which Beast would join.
bool is_folded(std::string_view head) noexcept {
    return head.contains("\r\n ") || head.contains("\r\n\t");
}

/// Where a request is directed to.
struct Destination {
    std::string_view path;
    std::optional<std::string_view> authority;  ///< of a target in absolute form, which beats the Host
};

std::optional<Destination> parse_target(std::string_view target) {
    Destination out;
    if (!is_visible(target)) return std::nullopt;
    constexpr std::string_view kScheme = "http://";
    if (target.size() > kScheme.size() && same_word(target.substr(0, kScheme.size()), kScheme)) {
        target.remove_prefix(kScheme.size());
        const auto end = target.find_first_of("/?");
        out.authority = target.substr(0, end);
        target.remove_prefix(std::min(end, target.size()));
        if (!target.starts_with('/')) target = "/";  // only a query, or nothing: the root
    }
    if (!target.starts_with('/')) return std::nullopt;
    out.path = target.substr(0, target.find('?'));
    return out;
}

/// What Beast lets pass and we do not: several Hosts or a strange one, HTTP/1.1 without one, content.
bool has_bad_fields(const Parser::value_type& request) {
    const auto hosts = request.count(http::field::host);
    if (hosts > 1 || (hosts == 0 && request.version() >= 11)) return true;
    if (!is_visible(request[http::field::host])) return true;
    return request.count(http::field::transfer_encoding) != 0 ||
           std::ranges::any_of(request, [](const auto& field) {
               return field.name() == http::field::content_length && field.value() != "0";
           });
}

ParsedRequest accept(const Parser::value_type& request) {
    const auto destination = parse_target(request.target());
    if (!destination || has_bad_fields(request)) return BadRequest{HttpStatus::bad_request};
    const std::string_view host = request[http::field::host];
    return HttpRequest{request.method_string(), std::string(destination->path),
                       std::string(destination->authority.value_or(host))};
}

/// "localhost", "127.1.2.3", "[::1]", each with or without a port.
bool is_loopback(std::string_view host) {
    std::string_view name;
    if (host.starts_with('[')) {
        if (!host.contains(']')) return false;
        const auto end = host.find(']');
        name = host.substr(1, end - 1);
        host.remove_prefix(end + 1);
        if (!name.contains(':')) return false;
    } else {
        name = host.substr(0, host.find(':'));
        host.remove_prefix(name.size());
    }
    if (!host.empty()) {
        const auto port = host.substr(1);
        constexpr std::size_t kLongestPort = 5;
        if (host.front() != ':' || port.size() > kLongestPort || !std::ranges::all_of(port, is_digit))
            return false;
    }
    if (same_word(name, "localhost")) return true;
    const auto address = IpAddress::parse(name);
    const auto v4 = IpBlock::parse("127.0.0.0/8");
    return address && (v4->contains(*address) || *address == *IpAddress::parse("::1"));
}

std::string_view sentence(HttpStatus status) {
    switch (status) {
        case HttpStatus::ok: break;
        case HttpStatus::bad_request: return "this is not a request of HTTP/1.1\n";
        case HttpStatus::forbidden: return "the Host must be localhost or a loopback address\n";
        case HttpStatus::not_found: return "there is only /metrics\n";
        case HttpStatus::method_not_allowed: return "there are only GET and HEAD\n";
        case HttpStatus::too_long: return "the request is longer than 8192 bytes\n";
    }
    return "";
}

}  // namespace

ParsedRequest parse_request(Bytes so_far) {
    const auto all = as_text(so_far.first(std::min(so_far.size(), kLongestRequest)));
    Parser parser;
    parser.header_limit(kLongestRequest + 1);  // the bound is ours, on all of it
    error_code error;
    const std::size_t taken = parser.put(boost::asio::buffer(all), error);
    const bool more = error == http::error::need_more;
    const auto head = more ? all : all.substr(0, taken);
    if ((error && !more) || is_folded(head)) return BadRequest{HttpStatus::bad_request};
    if (!more) return accept(parser.get());
    if (all.size() == kLongestRequest) return BadRequest{HttpStatus::too_long};
    return NeedMore{};
}

HttpStatus judge(const HttpRequest& request, HttpDoor door) {
    const bool may_be_empty = door == HttpDoor::unix_socket;
    if (request.host.empty() ? !may_be_empty : !is_loopback(request.host)) return HttpStatus::forbidden;
    if (request.path != "/metrics") return HttpStatus::not_found;
    if (request.method != "GET" && request.method != "HEAD") return HttpStatus::method_not_allowed;
    return HttpStatus::ok;
}

std::string respond(HttpStatus status, std::string_view method, std::string_view page) {
    const auto content = status == HttpStatus::ok ? page : sentence(status);
    constexpr unsigned kVersion = 11;
    http::response<http::empty_body> head(static_cast<http::status>(status), kVersion);
    head.set(http::field::content_type,
             status == HttpStatus::ok ? status::kPrometheusType : "text/plain; charset=utf-8");
    head.content_length(content.size());
    if (status == HttpStatus::method_not_allowed) head.set(http::field::allow, "GET, HEAD");
    head.set(http::field::cache_control, "no-store");
    head.set("X-Content-Type-Options", "nosniff");
    head.keep_alive(false);
    http::response_serializer<http::empty_body> serializer(head);
    std::string out;
    error_code ignored;  // an empty body has none
    serializer.next(ignored, [&out](error_code&, const auto& buffers) {
        out = boost::beast::buffers_to_string(buffers);
    });
    if (method != "HEAD") out += content;
    return out;
}

}  // namespace curvegate::daemon::front
