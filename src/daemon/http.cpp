#include "daemon/http.hpp"

#include "base/ip.hpp"
#include "status/prometheus.hpp"

#include <algorithm>
#include <optional>

namespace curvegate::daemon {
namespace {

constexpr std::string_view kLineEnd = "\r\n";
constexpr std::string_view kHeadEnd = "\r\n\r\n";

char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
bool same_word(std::string_view a, std::string_view b) noexcept {
    return std::ranges::equal(a, b, {}, lower, lower);
}
bool is_digit(char c) noexcept {
    return c >= '0' && c <= '9';
}

/// RFC 9110 5.6.2.
bool is_token(std::string_view text) noexcept {
    return !text.empty() && std::ranges::all_of(text, [](char c) {
        return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z') ||
               std::string_view("!#$%&'*+-.^_`|~").contains(c);
    });
}
bool is_visible(std::string_view text) noexcept {
    return std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

/// Only CRLF ends a line, and no other control but a tab stands in one. The last byte may be half a CRLF.
bool has_stray_control(std::string_view text) noexcept {
    for (std::size_t at = 0; at < text.size(); ++at) {
        const auto byte = static_cast<unsigned char>(text[at]);
        const bool ends = byte == '\r' && (at + 1 == text.size() || text[at + 1] == '\n');
        const bool ended = byte == '\n' && at > 0 && text[at - 1] == '\r';
        if ((byte < 0x20 && byte != '\t' && !ends && !ended) || byte == 0x7f) return true;
    }
    return false;
}

std::string_view trim(std::string_view text) noexcept {
    const auto first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// The text before `separator`, which goes too; all of it if there is none.
std::string_view take_until(std::string_view& text, std::string_view separator) noexcept {
    const auto end = text.find(separator);
    const auto part = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + separator.size());
    return part;
}

struct RequestLine {
    std::string_view method;
    std::string_view path;
    std::optional<std::string_view> authority;  ///< of a target in absolute form, which beats the Host
    bool host_required = false;                 ///< HTTP/1.1
};

std::optional<RequestLine> parse_request_line(std::string_view line) {
    RequestLine out;
    out.method = take_until(line, " ");
    auto target = take_until(line, " ");
    if (line != "HTTP/1.1" && line != "HTTP/1.0") return std::nullopt;
    out.host_required = line == "HTTP/1.1";
    if (!is_token(out.method) || target.empty() || !is_visible(target)) return std::nullopt;
    constexpr std::string_view kScheme = "http://";
    if (target.size() > kScheme.size() && same_word(target.substr(0, kScheme.size()), kScheme)) {
        target.remove_prefix(kScheme.size());
        const auto end = target.find_first_of("/?");
        out.authority = target.substr(0, end);
        target.remove_prefix(std::min(end, target.size()));
        if (!target.starts_with('/')) target = "/";  // only a query, or nothing: the root
    }
    if (!target.starts_with('/')) return std::nullopt;
    out.path = take_until(target, "?");
    return out;
}

struct Fields {
    std::optional<std::string_view> host;
};

/// Returns nullopt if a field is malformed, if there is a second Host, or if content is announced.
std::optional<Fields> parse_fields(std::string_view lines) {
    Fields out;
    while (!lines.empty()) {
        auto value = take_until(lines, kLineEnd);
        const auto colon = value.find(':');
        if (colon == std::string_view::npos) return std::nullopt;
        const auto name = value.substr(0, colon);
        if (!is_token(name)) return std::nullopt;  // also a folded line, and a blank before the colon
        value = trim(value.substr(colon + 1));
        if (same_word(name, "host")) {
            if (out.host || !is_visible(value)) return std::nullopt;
            out.host = value;
        }
        if (same_word(name, "transfer-encoding")) return std::nullopt;
        if (same_word(name, "content-length") && value != "0") return std::nullopt;
    }
    return out;
}

/// "localhost", "127.1.2.3", "[::1]", each with or without a port.
bool is_loopback(std::string_view host) {
    std::string_view name;
    if (host.starts_with('[')) {
        if (!host.contains(']')) return false;
        host.remove_prefix(1);
        name = take_until(host, "]");
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

std::string_view phrase(HttpStatus status) {
    switch (status) {
        case HttpStatus::ok: return "OK";
        case HttpStatus::bad_request: return "Bad Request";
        case HttpStatus::forbidden: return "Forbidden";
        case HttpStatus::not_found: return "Not Found";
        case HttpStatus::method_not_allowed: return "Method Not Allowed";
        case HttpStatus::too_long: return "Request Header Fields Too Large";
    }
    return "";
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
    const auto end = all.find(kHeadEnd);
    auto head = all.substr(0, end);
    const bool whole = end != std::string_view::npos;
    if (has_stray_control(whole ? all.substr(0, end + kHeadEnd.size()) : all))
        return BadRequest{HttpStatus::bad_request};
    if (!whole) {
        if (all.size() == kLongestRequest) return BadRequest{HttpStatus::too_long};
        return NeedMore{};
    }
    const auto line = parse_request_line(take_until(head, kLineEnd));
    const auto fields = parse_fields(head);
    if (!line || !fields) return BadRequest{HttpStatus::bad_request};
    if (line->host_required && !fields->host) return BadRequest{HttpStatus::bad_request};
    const auto host = line->authority.value_or(fields->host.value_or(""));
    return HttpRequest{std::string(line->method), std::string(line->path), std::string(host)};
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
    std::string out = "HTTP/1.1 " + std::to_string(static_cast<int>(status)) + " ";
    out += phrase(status);
    out += "\r\nContent-Type: ";
    out += status == HttpStatus::ok ? status::kPrometheusType : "text/plain; charset=utf-8";
    out += "\r\nContent-Length: " + std::to_string(content.size());
    if (status == HttpStatus::method_not_allowed) out += "\r\nAllow: GET, HEAD";
    out += "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n";
    if (method != "HEAD") out += content;
    return out;
}

}  // namespace curvegate::daemon
