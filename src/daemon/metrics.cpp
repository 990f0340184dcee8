#include "daemon/metrics.hpp"

#include "base/time.hpp"

#include <sys/socket.h>
#include <boost/asio/write.hpp>

#include <cerrno>

namespace curvegate::daemon {
namespace {

namespace asio = net::asio;
using net::error_code;

constexpr Duration kPatience = std::chrono::seconds(5);  // for the request, and for taking the page
constexpr Duration kPause = std::chrono::milliseconds(100);

}  // namespace

class MetricsServer::Client : public std::enable_shared_from_this<Client> {
  public:
    Client(Protocol::socket socket, status::HttpDoor door, PageFn page, std::shared_ptr<std::size_t> count)
        : socket_(std::move(socket)),
          timer_(socket_.get_executor()),
          door_(door),
          page_(std::move(page)),
          count_(std::move(count)) {
        ++*count_;
    }
    ~Client() { --*count_; }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    void start() {
        timer_.expires_after(kPatience);
        timer_.async_wait([weak = weak_from_this()](error_code error) {
            const auto self = weak.lock();
            if (!self || error) return;
            error_code ignored;
            self->socket_.close(ignored);
        });
        read();
    }

  private:
    void read() {
        const std::size_t had = request_.size();
        request_.resize(had + 1'024);
        socket_.async_receive(asio::buffer(request_.data() + had, request_.size() - had),
                              [self = shared_from_this(), had](error_code error, std::size_t size) {
                                  self->request_.resize(had + size);
                                  if (!error) self->look();
                              });
    }

    void look() {
        const auto parsed = status::parse_request(request_);
        if (std::holds_alternative<status::NeedMore>(parsed)) return read();
        if (const auto* bad = std::get_if<status::BadRequest>(&parsed)) return answer(bad->status, "GET", {});
        const auto& request = std::get<status::HttpRequest>(parsed);
        const auto verdict = status::judge(request, door_);
        if (verdict != status::HttpStatus::ok) return answer(verdict, request.method, {});
        page_([self = shared_from_this(), method = request.method](const std::string& page) {
            self->answer(status::HttpStatus::ok, method, page);
        });
    }

    void answer(status::HttpStatus status, std::string_view method, std::string_view page) {
        response_ = status::respond(status, method, page);
        asio::async_write(socket_, asio::buffer(response_),
                          [self = shared_from_this()](error_code, std::size_t) {
                              error_code ignored;
                              self->timer_.cancel();
                              self->socket_.shutdown(Protocol::socket::shutdown_send, ignored);
                          });
    }

    Protocol::socket socket_;
    asio::steady_timer timer_;
    status::HttpDoor door_;
    PageFn page_;
    std::shared_ptr<std::size_t> count_;
    std::vector<Byte> request_;
    std::string response_;
};

MetricsServer::MetricsServer(asio::io_context& context, os::UniqueFd listening, status::HttpDoor door,
                             PageFn page)
    : context_(context), listening_(context), timer_(context), door_(door), page_(std::move(page)) {
    const int family = door == status::HttpDoor::unix_socket ? AF_UNIX : AF_INET;
    error_code error;
    listening_.assign(Protocol(family, 0), listening.get(), error);
    if (error) return;
    (void)listening.release();
    listening_.non_blocking(true, error);
    wait();
}

void MetricsServer::wait() {
    listening_.async_wait(Protocol::socket::wait_read, [this](error_code error) {
        if (!error) accept_all();
    });
}

void MetricsServer::accept_all() {
    for (;;) {
        os::UniqueFd fd(
            ::accept4(listening_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (!fd && (errno == EAGAIN || errno == EWOULDBLOCK)) return wait();
        if (!fd) break;  // no descriptor is left, or the like
        if (*clients_ >= kMostClients) continue;
        error_code error;
        Protocol::socket socket(context_);
        socket.assign(Protocol(AF_UNIX, 0), fd.get(), error);
        if (error) continue;
        (void)fd.release();
        socket.non_blocking(true, error);
        std::make_shared<Client>(std::move(socket), door_, page_, clients_)->start();
    }
    timer_.expires_after(kPause);
    timer_.async_wait([this](error_code error) {
        if (!error) accept_all();
    });
}

}  // namespace curvegate::daemon
