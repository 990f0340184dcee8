#include "daemon/control.hpp"

#include "config/control_protocol.hpp"
#include "log/log.hpp"

#include <sys/socket.h>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>

#include <algorithm>
#include <cerrno>
#include <sstream>

namespace curvegate::daemon {
namespace {

namespace asio = net::asio;
using net::error_code;

constexpr Duration kPatience = std::chrono::seconds(5);    // for the request line
constexpr std::size_t kMostUnsent = std::size_t{4} << 20;  // a client that does not read is let go
constexpr int kUsage = 64;
constexpr int kProtocol = 76;

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

class ControlServer::Client final : public ControlReply, public std::enable_shared_from_this<Client> {
  public:
    Client(asio::local::stream_protocol::socket socket, unsigned uid, Right right, Handler handler,
           std::shared_ptr<std::size_t> count)
        : uid_(uid),
          socket_(std::move(socket)),
          timer_(socket_.get_executor()),
          right_(right),
          handler_(std::move(handler)),
          count_(std::move(count)) {
        ++*count_;
    }
    ~Client() override { --*count_; }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    void start() {
        timer_.expires_after(kPatience);
        timer_.async_wait([weak = weak_from_this()](error_code error) {
            const auto self = weak.lock();
            if (self && !error) self->close();
        });
        asio::async_read_until(socket_, asio::dynamic_buffer(request_, kLongestRequest), '\n',
                               [self = shared_from_this()](error_code error, std::size_t size) {
                                   self->timer_.cancel();
                                   if (error) return self->close();
                                   self->handle(self->request_.substr(0, size - 1));
                               });
    }

    void out(std::string_view line) override { say("out ", line); }
    void err(std::string_view line) override { say("err ", line); }
    void end(int status) override {
        say("end ", std::to_string(status));
        ended_ = true;
        flush();
    }
    [[nodiscard]] bool alive() const override { return socket_.is_open(); }
    [[nodiscard]] unsigned uid() const override { return uid_; }

  private:
    void handle(const std::string& line) {
        std::istringstream in(line);
        Words words;
        for (std::string word; in >> word;) words.push_back(std::move(word));
        if (words.size() < 3 || words[0] != config::kControlGreeting) {
            err("not a request of the control protocol");
            return end(kUsage);
        }
        if (words[1] != config::kControlVersion) {
            err("the daemon speaks version " + std::string(config::kControlVersion) +
                " of the control protocol");
            return end(kProtocol);
        }
        watch();
        words.erase(words.begin(), words.begin() + 2);
        handler_(right_, words, shared_from_this());
    }

    // Nothing more may come; the end of it says that nobody listens any more.
    void watch() {
        socket_.async_wait(asio::socket_base::wait_read, [weak = weak_from_this()](error_code) {
            if (const auto self = weak.lock()) self->close();
        });
    }

    void say(std::string_view kind, std::string_view text) {
        if (ended_ || !alive()) return;
        // One line stays one line, whatever is in it.
        unsent_ += kind;
        std::ranges::replace_copy_if(
            text, std::back_inserter(unsent_), [](char c) { return c == '\n' || c == '\r'; }, ' ');
        unsent_ += '\n';
        if (unsent_.size() > kMostUnsent) return close();
        flush();
    }

    void flush() {
        if (writing_ || !alive()) return;
        if (unsent_.empty()) {
            if (ended_) close();
            return;
        }
        writing_ = true;
        sending_ = std::exchange(unsent_, {});
        asio::async_write(socket_, asio::buffer(sending_),
                          [self = shared_from_this()](error_code error, std::size_t) {
                              self->writing_ = false;
                              if (error) return self->close();
                              self->flush();
                          });
    }

    void close() {
        error_code ignored;
        timer_.cancel();
        socket_.close(ignored);
    }

    const unsigned uid_;
    asio::local::stream_protocol::socket socket_;
    asio::steady_timer timer_;
    Right right_;
    Handler handler_;
    std::shared_ptr<std::size_t> count_;
    std::string request_;
    std::string unsent_;
    std::string sending_;
    bool writing_ = false;
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

Right ControlAccess::right_of(const ControlPeer& peer) const {
    const auto is_in = [&](const std::optional<unsigned>& group) {
        return group && std::ranges::find(peer.groups, *group) != peer.groups.end();
    };
    if (peer.uid == 0 || peer.uid == uid || is_in(control_group)) return Right::command;
    return is_in(status_group) ? Right::status : Right::none;
}

void ControlServer::accept() {
    acceptor_.async_accept([this](error_code error, asio::local::stream_protocol::socket socket) {
        if (error == asio::error::operation_aborted) return;
        if (error) return pause();
        const auto peer = peer_of(socket.native_handle());
        const Right right = peer ? access_.right_of(*peer) : Right::none;
        if (right == Right::none) log::limited(log::Level::warning, "control_refused");
        // Who may only look must not keep those out who may command.
        const auto& count = right == Right::command ? clients_ : readers_;
        if (right != Right::none && *count < kMostClients)
            std::make_shared<Client>(std::move(socket), peer->uid, right, handler_, count)->start();
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

}  // namespace curvegate::daemon
