#pragma once

#include "io/socket_options.hpp"
#include "io/stream_io.hpp"
#include "tunnel/wire.hpp"

#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

/// A wire for tests, without any cryptography: the client says which key it has, and then the bytes of the
/// tunnel go as they are. It shows how much a wire has to bring along.
namespace curvegate::test::toy {

class Bytes final : public tunnel::ByteTunnel {
  public:
    explicit Bytes(io::Stream socket) : socket_(std::move(socket)) { socket_.non_blocking(true); }
    ~Bytes() override { *alive_ = false; }
    void start() override { wait(io::Stream::wait_read, &Bytes::read); }
    std::span<iovec> prepare() override {
        if (!unsent_.empty() || ending_) return {};
        gap_ = {out_.data(), out_.size()};
        return {&gap_, 1};
    }
    void commit(std::size_t size) override {
        unsent_ = MutableBytes(out_).first(size);
        send();
    }
    void flush() override {}
    void finish() override {
        ending_ = true;
        send();
    }
    void fail_after_all() override { finish(), io::reset_when_closed(socket_.native_handle()); }
    void abort() override { on_end = nullptr, socket_.close(); }
    [[nodiscard]] bool end_is_told() const override { return ending_ && unsent_.empty(); }
    [[nodiscard]] bool is_delivered() override { return end_is_told(); }
    std::span<iovec> readable() override {
        come_ = {unread_.data(), unread_.size()};
        return {&come_, unread_.empty() ? 0U : 1U};
    }
    void consume(std::size_t size) override {
        unread_ = unread_.subspan(size);
        if (unread_.empty() && incoming_ == Incoming::open) start();
    }
    [[nodiscard]] Incoming incoming() const override { return incoming_; }
    [[nodiscard]] bool is_complete() const override { return end_is_told() && incoming_ == Incoming::ended; }
    [[nodiscard]] bool is_silent(Duration) override { return false; }

  private:
    void send() {
        const auto sent = io::send_some(socket_, unsent_);
        unsent_ = sent ? unsent_.subspan(*sent) : MutableBytes();  // the reader sees that it is broken
        if (!unsent_.empty()) return wait(io::Stream::wait_write, &Bytes::send_more);
        error_code ignored;
        if (ending_) socket_.shutdown(io::Stream::shutdown_send, ignored);
    }
    void send_more() {
        send();
        on_event();
    }
    void read() {
        error_code error;
        const std::size_t size = socket_.read_some(asio::buffer(in_), error);
        if (error == asio::error::would_block) return start();
        unread_ = MutableBytes(in_).first(size);
        if (error) incoming_ = error == asio::error::eof ? Incoming::ended : Incoming::failed;
        on_event();
    }
    void wait(io::Stream::wait_type what, void (Bytes::*then)()) {
        socket_.async_wait(what, [this, alive = alive_, then](error_code error) {
            if (!error && *alive) (this->*then)();
        });
    }

    io::Stream socket_;
    ByteArray<16'384> out_{};
    ByteArray<16'384> in_{};
    MutableBytes unsent_;  // of out_
    MutableBytes unread_;  // of in_
    iovec gap_{};
    iovec come_{};
    Incoming incoming_ = Incoming::open;
    bool ending_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

class Tunnel final : public tunnel::Tunnel {
  public:
    Tunnel(const crypto::PublicKey& peer, io::Stream socket)
        : tunnel::Tunnel(peer, vault::KeySlot::server), socket_(std::move(socket)) {}
    std::unique_ptr<tunnel::ByteTunnel> bytes() override {
        return std::make_unique<Bytes>(std::move(socket_));
    }
    std::unique_ptr<tunnel::MessagePipe> messages() override {
        throw std::logic_error("the toy carries bytes alone");
    }
    std::weak_ptr<tunnel::Remains> outlive(std::shared_ptr<const void>, std::function<void()>) override {
        return {};
    }

  private:
    io::Stream socket_;
};

/// Says our key and is done: the toy believes that who listens there is the server.
struct Opener final : tunnel::Opener {
    explicit Opener(const tunnel::Environment& with) : lent(with) {}
    void open(tunnel::Opening wanted, tunnel::OpenedFn done, const io::CancellationPtr& cancel) override {
        auto dialled = [vault = lent.tools.vault, server = wanted.keys.at(0),
                        done = std::move(done)](Result<io::Stream> socket) mutable {
            if (!socket) return done(std::unexpected(socket.error()));
            vault->ask(vault::GetPublicKey{vault::KeySlot::client},
                       [server, done = std::move(done), socket = std::move(*socket)](auto reply) mutable {
                           if (!reply) return done(std::unexpected(reply.error()));
                           asio::write(socket, asio::buffer(std::get<vault::PublicKeyIs>(*reply).key));
                           done(std::make_unique<Tunnel>(server, std::move(socket)));
                       });
        };
        io::dial(*lent.context, *lent.resolver, wanted.address, wanted.deadline, std::move(dialled), cancel);
    }
    tunnel::Environment lent;
};
/// Hears the client's key.
inline std::weak_ptr<tunnel::HandshakeHandle> shake_hands(const tunnel::Environment&, io::Stream stream,
                                                          const IpAddress&, guard::Admission::Ticket place,
                                                          std::shared_ptr<tunnel::Guest> guest) {
    struct Hello {
        io::Stream socket;
        ByteArray<32> key{};
    };
    const auto hello = std::make_shared<Hello>(std::move(stream));
    asio::async_read(hello->socket, asio::buffer(hello->key),
                     [hello, guest, place = std::move(place)](error_code, std::size_t) {
                         const auto client = crypto::PublicKey::parse(hello->key);
                         if (!client || guest->authorise(*client, {}))
                             return guest->refused(handshake::Errc::not_authorised);
                         guest->established(std::make_unique<Tunnel>(*client, std::move(hello->socket)));
                     });
    return {};
}

inline constexpr tunnel::Wire kWire{
    .make_opener = [](const tunnel::Environment& lent) -> std::unique_ptr<tunnel::Opener> {
        return std::make_unique<Opener>(lent);
    },
    .shake_hands = shake_hands};

}  // namespace curvegate::test::toy
