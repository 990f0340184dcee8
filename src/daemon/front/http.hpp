#pragma once

#include "base/bytes.hpp"

#include <string>
#include <string_view>
#include <variant>

/// As much of HTTP/1.1 (RFC 9112) as a metrics page needs: one request a connection, without content, and one
/// response. Boost.Beast parses and writes; what is asked and answered is ours. No sockets here: bytes in,
/// bytes out.
namespace curvegate::daemon::front {

/// A request that has not ended after so many bytes is too long.
inline constexpr std::size_t kLongestRequest = 8192;

enum class HttpStatus {
    ok = 200,
    bad_request = 400,
    forbidden = 403,
    not_found = 404,
    method_not_allowed = 405,
    too_long = 431,
};

struct HttpRequest {
    std::string method;  ///< as sent: methods are case-sensitive
    std::string path;    ///< without the query
    std::string host;    ///< with its port if one was sent; empty: HTTP/1.0 without one, or an empty one
};
struct NeedMore {};
struct BadRequest {
    HttpStatus status;  ///< bad_request or too_long
};
using ParsedRequest = std::variant<NeedMore, BadRequest, HttpRequest>;

/// Reads the beginning of what a client sent, of which it looks at kLongestRequest bytes at most. Stricter
/// than Beast's parser where leniency lets two readers disagree: no folded lines, one Host, no content.
/// Returns NeedMore until the head has ended, or BadRequest as soon as it cannot become a request. What was
/// decided stays decided when more bytes follow; what follows the request is not looked at.
[[nodiscard]] ParsedRequest parse_request(Bytes so_far);

/// Where the request came in.
enum class HttpDoor { loopback, unix_socket };

/// What the request gets: ok only for GET or HEAD of /metrics. A Host that is neither a loopback address nor
/// "localhost" is forbidden: a page of another site whose name was made to point here (DNS rebinding) sends
/// its own. Over a unix socket the Host may be empty.
[[nodiscard]] HttpStatus judge(const HttpRequest& request, HttpDoor door);

/// A whole response that closes the connection; to HEAD only its head. `page` is the content if the status is
/// ok; every other status has a sentence of its own.
[[nodiscard]] std::string respond(HttpStatus status, std::string_view method, std::string_view page = {});

}  // namespace curvegate::daemon::front
