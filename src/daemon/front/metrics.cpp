#include "daemon/front/metrics.hpp"

#include "io/clock.hpp"

#include <sys/socket.h>

#include <cerrno>

namespace curvegate::daemon::front {
namespace {

constexpr Duration kPause = std::chrono::milliseconds(100);

}  // namespace

class MetricsServer::Client final : public LocalClient {
  public:
    Client(io::Stream socket, HttpDoor door, SharedPage& page)
        : LocalClient(std::move(socket)), door_(door), page_(page) {}

    void start() {
        await_request();
        read();
    }

  private:
    [[nodiscard]] std::shared_ptr<Client> shared() {
        return std::static_pointer_cast<Client>(shared_from_this());
    }

    void read() {
        const std::size_t had = request_.size();
        request_.resize(had + 1'024);
        socket_.async_receive(asio::buffer(request_.data() + had, request_.size() - had),
                              [self = shared(), had](error_code error, std::size_t size) {
                                  self->request_.resize(had + size);
                                  if (error) return self->close();
                                  self->look();
                              });
    }

    void look() {
        const auto parsed = parse_request(request_);
        if (std::holds_alternative<NeedMore>(parsed)) return read();
        request_came();
        if (const auto* bad = std::get_if<BadRequest>(&parsed))
            return send(std::string_view(respond(bad->status, "GET")));
        const auto& request = std::get<HttpRequest>(parsed);
        const auto verdict = judge(request, door_);
        if (verdict != HttpStatus::ok) return send(std::string_view(respond(verdict, request.method)));
        page_.ask(io::now(), [self = shared(), method = request.method](const SharedPage::Page& page) {
            self->send(std::string_view(respond(HttpStatus::ok, "HEAD", *page)));
            if (method != "HEAD") self->send(page);
        });
    }

    void on_all_sent() override {
        error_code ignored;
        socket_.shutdown(io::Stream::shutdown_send, ignored);
    }

    HttpDoor door_;
    SharedPage& page_;
    std::vector<Byte> request_;
};

MetricsServer::MetricsServer(asio::io_context& context, os::UniqueFd listening, HttpDoor door,
                             SharedPage::MakeFn page)
    : context_(context), listening_(context), timer_(context), door_(door), page_(std::move(page)) {
    const int family = door == HttpDoor::unix_socket ? AF_UNIX : AF_INET;
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
        if (!clients_.make_room()) continue;
        error_code error;
        Protocol::socket socket(context_);
        socket.assign(Protocol(AF_UNIX, 0), fd.get(), error);
        if (error) continue;
        (void)fd.release();
        socket.non_blocking(true, error);
        const auto client = std::make_shared<Client>(std::move(socket), door_, page_);
        clients_.add(client);
        client->start();
    }
    timer_.expires_after(kPause);
    timer_.async_wait([this](error_code error) {
        if (!error) accept_all();
    });
}

}  // namespace curvegate::daemon::front
