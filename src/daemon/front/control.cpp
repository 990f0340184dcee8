#include "daemon/front/control.hpp"

#include "log/log.hpp"

#include <sys/socket.h>
#include <boost/asio/read_until.hpp>

#include <algorithm>
#include <cerrno>

namespace curvegate::daemon::front {
namespace {

constexpr std::size_t kMostUnsent = std::size_t{4} << 20;  // of events, which have no end

std::vector<unsigned> groups_of_peer(int socket) {
    std::vector<gid_t> groups(64);
    auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    int done = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
    if (done != 0 && errno == ERANGE) {  // it has said how many there are
        groups.resize(size / sizeof(gid_t));
        done = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
    }
    groups.resize(done == 0 ? size / sizeof(gid_t) : 0);
    return groups;
}

// As it was when it connected.
std::optional<ControlPeer> peer_of(int socket) {
    ucred who{};
    socklen_t size = sizeof who;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return std::nullopt;
    ControlPeer out{who.uid, groups_of_peer(socket)};
    out.groups.push_back(who.gid);
    return out;
}

}  // namespace

class ControlServer::Client final : public LocalClient, public ControlReply {
  public:
    Client(io::Stream socket, unsigned uid, Right right, Handler handler)
        : LocalClient(std::move(socket)), uid_(uid), right_(right), handler_(std::move(handler)) {}

    void start() {
        await_request();
        asio::async_read_until(socket_, asio::dynamic_buffer(request_, kLongestRequest), '\n',
                               [self = shared()](error_code error, std::size_t size) {
                                   self->request_came();
                                   if (error) return self->close();
                                   self->handle(self->request_.substr(0, size - 1));
                               });
    }

    void out(std::string_view line) override { say("out ", line); }
    void page(const Piece& line) override {
        if (ended_) return;
        send("out ");
        send(line);
        send("\n");
    }
    void event(std::string_view line) override {
        listens();
        say("out ", line);
        if (unsent() > kMostUnsent) close();
    }
    void err(std::string_view line) override { say("err ", line); }
    void end(int status) override {
        say("end ", std::to_string(status));
        ended_ = true;
    }
    [[nodiscard]] bool alive() const override { return is_open(); }
    [[nodiscard]] unsigned uid() const override { return uid_; }

  private:
    [[nodiscard]] std::shared_ptr<Client> shared() {
        return std::static_pointer_cast<Client>(shared_from_this());
    }

    void handle(const std::string& line) {
        const auto words = parse_control_request(line);
        if (!words) {
            err(words.error().why);
            return end(words.error().status);
        }
        watch();
        handler_(right_, *words, shared());
    }

    // Nothing more may come; the end of it says that nobody listens any more.
    void watch() {
        socket_.async_wait(asio::socket_base::wait_read, [weak = weak_from_this()](error_code) {
            if (const auto self = weak.lock()) self->close();
        });
    }

    void say(std::string_view kind, std::string_view text) {
        if (ended_) return;
        std::string line(kind);
        // One line stays one line, whatever is in it.
        std::ranges::replace_copy_if(
            text, std::back_inserter(line), [](char c) { return c == '\n' || c == '\r'; }, ' ');
        line += '\n';
        send(std::string_view(line));
    }

    void on_all_sent() override {
        if (ended_) close();
    }

    const unsigned uid_;
    Right right_;
    Handler handler_;
    std::string request_;
    bool ended_ = false;
};

ControlServer::ControlServer(asio::io_context& context, os::UniqueFd listening, const ControlAccess& access,
                             Handler handler)
    : acceptor_(context), timer_(context), access_(access), handler_(std::move(handler)) {
    error_code error;
    acceptor_.assign(asio::local::stream_protocol(), listening.get(), error);
    if (error) return;
    (void)listening.release();
    acceptor_.non_blocking(true, error);
    accept();
}

ControlServer::~ControlServer() = default;

void ControlServer::accept() {
    acceptor_.async_accept([this](error_code error, asio::local::stream_protocol::socket socket) {
        if (error == asio::error::operation_aborted) return;
        if (error) return pause();
        const auto peer = peer_of(socket.native_handle());
        const Right right = peer ? access_.right_of(*peer) : Right::none;
        if (right == Right::none) log::limited(log::Level::warning, "control_refused");
        // Who may only look must not keep those out who may command.
        auto& others = right == Right::command ? clients_ : readers_;
        if (right != Right::none && others.make_room()) {
            const auto client =
                std::make_shared<Client>(io::Stream(std::move(socket)), peer->uid, right, handler_);
            others.add(client);
            client->start();
        }
        accept();
    });
}

// No descriptor is left, or the like.
void ControlServer::pause() {
    timer_.expires_after(std::chrono::milliseconds(100));
    timer_.async_wait([this](error_code error) {
        if (!error) accept();
    });
}

}  // namespace curvegate::daemon::front
