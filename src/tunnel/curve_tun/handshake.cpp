#include "tunnel/curve_tun/handshake.hpp"

#include "io/clock.hpp"
#include "wire/curve_tun_frames.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>

#include <optional>

namespace curvegate::tunnel::curve_tun {
namespace {

namespace machine = handshake::curve_tun;
namespace wire = wire::curve_tun;
using machine::Event;
namespace action = machine::action;
namespace event = machine::event;

/// The actor of one handshake: reads packets of the one size that may come, runs actions, keeps the timer.
template <class Machine>
class Runner final : public HandshakeHandle, public std::enable_shared_from_this<Runner<Machine>> {
  public:
    Runner(io::Stream stream, const tunnel::HandshakeTools& tools, Machine fsm, EstablishedFn done)
        : stream_(std::move(stream)),
          timer_(stream_.get_executor()),
          tools_(tools),
          done_(std::move(done)),
          fsm_(std::move(fsm)) {}

    // Set before begin() by the server's side only.
    tunnel::AuthoriseFn authorise;
    IpAddress source;

    void begin() {
        if constexpr (std::is_same_v<Machine, machine::Client>) {
            auto keys = crypto::EphemeralKeyPair::generate(*tools_.pool, *tools_.random);
            // Not from within begin(): done() may come of this.
            asio::post(stream_.get_executor(),
                       [self = this->shared_from_this(), keys = std::move(keys)]() mutable {
                           if (!keys) return self->finish(fail(handshake::Errc::no_secret_memory));
                           self->feed(event::Start{std::move(*keys)});
                       });
        } else {
            read();
            arm_timer();
        }
    }

    void stop() override { feed(event::Stop{}); }

  private:
    void feed(Event&& first) {
        std::optional<Event> next(std::move(first));
        while (next && done_) {
            auto actions = fsm_.handle(std::move(*next), io::now());
            next.reset();
            for (auto& step : actions) {
                auto answer = std::visit([this](auto& act) { return this->run(act); }, step);
                if (answer) next = std::move(answer);
            }
        }
        if (!done_) return;
        arm_timer();
        read();
    }

    // Each run() gives the event that answers the action at once, or nothing if the answer comes later.
    std::optional<Event> run(std::monostate&) { return std::nullopt; }
    std::optional<Event> run(action::Send& send) {
        outgoing_.resize(wire::kFrameHeaderSize + send.size);
        Writer out(outgoing_);
        wire::serialise_frame_header(send.size, out.claim<wire::kFrameHeaderSize>());
        out.put(send.packet());
        asio::async_write(stream_, asio::buffer(outgoing_),
                          [self = this->shared_from_this()](error_code error, std::size_t) {
                              if (!self->done_) return;
                              if (error) return self->feed(event::PeerClosed{});
                              if constexpr (std::is_same_v<Machine, machine::Client>) {
                                  if (self->fsm_.state() == machine::ClientState::vouched)
                                      self->feed(event::Written{});
                              }
                          });
        return std::nullopt;
    }
    std::optional<Event> run(action::IssueCookie& issue) {
        auto keys = crypto::EphemeralKeyPair::generate(*tools_.pool, *tools_.random);
        if (!keys) return event::NotPossible{keys.error()};
        auto cookie = tools_.keeper->issue(binding(issue.slot), issue.client_short, keys->secret,
                                           *tools_.random, io::now());
        if (!cookie) return event::CookieRefused{cookie.error()};
        return event::CookieIssued{keys->public_key, *cookie};
    }
    std::optional<Event> run(action::RedeemCookie& redeem) {
        auto redeemed = tools_.keeper->redeem(redeem.cookie, binding(redeem.slot.value()), io::now());
        if (!redeemed) return event::CookieRefused{redeemed.error()};
        return event::CookieRedeemed{std::move(*redeemed)};
    }
    std::optional<Event> run(action::AskVault& ask) {
        tools_.vault->ask(ask.request, [self = this->shared_from_this()](Result<vault::ReplyBody> reply) {
            if (!self->done_) return;
            self->feed(handshake::event_of<Event>(std::move(reply)));
        });
        return std::nullopt;
    }
    std::optional<Event> run(action::Authorise& ask) {
        if (auto why = authorise(ask.client)) return event::NotAuthorised{std::move(*why)};
        return event::Authorised{};
    }
    std::optional<Event> run(action::Established& established) {
        finish(Established{std::move(stream_), std::move(established.session), established.peer,
                           established.slot});
        return std::nullopt;
    }
    std::optional<Event> run(action::Close& close) {
        finish(std::unexpected(std::move(close.why)));
        return std::nullopt;
    }

    [[nodiscard]] cookie::Binding binding(vault::KeySlot slot) const {
        return {cookie::Carrier::tcp, static_cast<Byte>(slot), source};
    }

    void read() {
        const std::size_t want = fsm_.expected_packet_size();
        if (reading_ || want == 0) return;
        reading_ = true;
        incoming_.resize(wire::kFrameHeaderSize + want);
        stream_.async_read_some(asio::buffer(incoming_.data() + have_, incoming_.size() - have_),
                                [self = this->shared_from_this()](error_code error, std::size_t size) {
                                    self->reading_ = false;
                                    if (!self->done_) return;
                                    if (error) return self->feed(event::PeerClosed{});
                                    self->have_ += size;
                                    self->on_bytes();
                                });
    }

    void on_bytes() {
        const auto allowed = wire::PacketSizes::exactly(incoming_.size() - wire::kFrameHeaderSize);
        using What = wire::FrameStart::What;
        switch (wire::next_frame(Bytes(incoming_).first(have_), allowed).what) {
            case What::part: return read();
            case What::bad_length: return feed(event::PacketRefused{wire_error()});
            case What::packet: break;
        }
        have_ = 0;
        auto packet = wire::parse_packet(Bytes(incoming_).subspan(wire::kFrameHeaderSize));
        if (!packet) return feed(event::PacketRefused{packet.error()});
        feed(machine::arrived(*packet));
    }
    static Error wire_error() { return curvegate::wire::Errc::wrong_length; }

    void arm_timer() {
        const Deadline deadline = fsm_.next_deadline();
        if (deadline == armed_) return;
        armed_ = deadline;
        if (!deadline) {
            timer_.cancel();
            return;
        }
        timer_.expires_at(*deadline);
        timer_.async_wait([self = this->shared_from_this()](error_code error) {
            if (error || !self->done_ || !self->fsm_.next_deadline() ||
                *self->fsm_.next_deadline() > io::now())
                return;
            self->feed(event::DeadlineReached{});
        });
    }

    void finish(Result<Established> result) {
        if (!done_) return;
        timer_.cancel();
        if (!result) {
            error_code ignored;
            stream_.close(ignored);
        }
        auto done = std::exchange(done_, nullptr);
        done(std::move(result));
    }

    io::Stream stream_;
    asio::steady_timer timer_;
    tunnel::HandshakeTools tools_;
    EstablishedFn done_;  // empty: over; may hold what owns the pool, so it outlives the machine's secrets
    Machine fsm_;
    std::vector<Byte> incoming_;
    std::vector<Byte> outgoing_;
    std::size_t have_ = 0;  // of incoming_
    Deadline armed_;
    bool reading_ = false;
};

}  // namespace

std::shared_ptr<HandshakeHandle> start_server_handshake(io::Stream stream,
                                                        const tunnel::HandshakeTools& tools,
                                                        const IpAddress& source,
                                                        tunnel::AuthoriseFn authorise, EstablishedFn done) {
    auto runner = std::make_shared<Runner<machine::Server>>(
        std::move(stream), tools, machine::Server(tools.vault->server_slot(), tools.timeouts, io::now()),
        std::move(done));
    runner->authorise = std::move(authorise);
    runner->source = source;
    runner->begin();
    return runner;
}

std::shared_ptr<HandshakeHandle> start_client_handshake(io::Stream stream,
                                                        const tunnel::HandshakeTools& tools,
                                                        const crypto::PublicKey& server, Instant deadline,
                                                        EstablishedFn done) {
    auto runner = std::make_shared<Runner<machine::Client>>(
        std::move(stream), tools, machine::Client(server, tools.timeouts, deadline), std::move(done));
    runner->begin();
    return runner;
}

}  // namespace curvegate::tunnel::curve_tun
