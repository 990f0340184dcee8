#include "tunnel/curve_tun/handshake.hpp"

#include "io/clock.hpp"
#include "tunnel/runner.hpp"
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

/// The actor of one handshake: reads packets of the one size that may come, writes, keeps the timer. A Port
/// of tunnel::Runner.
template <class Machine>
class Handshake final : public HandshakeHandle, public std::enable_shared_from_this<Handshake<Machine>> {
  public:
    template <class... Arguments>
    Handshake(io::Stream stream, const tunnel::HandshakeTools& tools, EstablishedFn done,
              Arguments&&... of_machine)
        : stream_(std::move(stream)),
          timer_(stream_.get_executor()),
          tools_(tools),
          done_(std::move(done)),
          runner_(*this, std::forward<Arguments>(of_machine)...) {}

    // Set before begin() by the server's side only.
    tunnel::AuthoriseFn may_in;
    IpAddress source;

    void begin() {
        if constexpr (kIsClient) {
            // Not from within begin(): done() may come of this.
            asio::post(stream_.get_executor(), [self = this->shared_from_this()] {
                if (self->done_) self->runner_.begin();
            });
        } else {
            settled();
        }
    }

    void stop() override { feed(event::Stop{}); }

  private:
    friend class tunnel::Runner<Machine, Handshake>;
    static constexpr bool kIsClient = std::is_same_v<Machine, machine::Client>;

    void feed(Event&& event) {
        if (done_) runner_.feed(std::move(event));
    }

    // ---- what the runner asks ----

    /// Keeps us until the vault answers; true as long as that is wanted.
    struct Hold {
        std::shared_ptr<Handshake> self;
        explicit operator bool() const noexcept { return self->done_ != nullptr; }
    };
    [[nodiscard]] const tunnel::HandshakeTools& tools() const noexcept { return tools_; }
    [[nodiscard]] Instant now() const { return io::now(); }
    [[nodiscard]] Hold hold() { return {this->shared_from_this()}; }
    [[nodiscard]] Event start(crypto::EphemeralKeyPair keys) const { return event::Start{std::move(keys)}; }
    [[nodiscard]] cookie::Origin origin() const { return {cookie::Wire::curve_tun, source}; }
    /// It has its place since it was accepted.
    [[nodiscard]] Result<> admit() const { return {}; }
    [[nodiscard]] std::optional<std::string> authorise(const action::Authorise& ask) {
        return may_in(ask.client);
    }
    void on(const action::Send& send) {
        outgoing_.resize(wire::kFrameHeaderSize + send.size);
        Writer out(outgoing_);
        wire::serialise_frame_header(send.size, out.claim<wire::kFrameHeaderSize>());
        out.put(send.packet());
        asio::async_write(stream_, asio::buffer(outgoing_),
                          [self = this->shared_from_this()](error_code error, std::size_t) {
                              if (error) return self->feed(event::PeerClosed{});
                              if constexpr (kIsClient) {
                                  if (self->runner_.state() == machine::ClientState::vouched)
                                      self->feed(event::Written{});
                              }
                          });
    }
    void on(action::Established& established) {
        finish(Established{std::move(stream_), std::move(established.session), established.peer,
                           established.slot});
    }
    void on(action::Close& close) { finish(std::unexpected(std::move(close.why))); }
    void settled() {
        if (!done_) return;
        arm_timer();
        read();
    }

    // ---- packets ----

    void read() {
        const std::size_t want = runner_.machine().expected_packet_size();
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
        const Deadline deadline = runner_.next_deadline();
        if (deadline == armed_) return;
        armed_ = deadline;
        if (!deadline) {
            timer_.cancel();
            return;
        }
        timer_.expires_at(*deadline);
        timer_.async_wait([self = this->shared_from_this()](error_code error) {
            if (!error && self->done_) self->runner_.look_at_clock(io::now());
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
    io::Timer timer_;
    tunnel::HandshakeTools tools_;
    EstablishedFn done_;  // empty: over; may hold what owns the pool, so it outlives the machine's secrets
    tunnel::Runner<Machine, Handshake> runner_;
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
    auto handshake = std::make_shared<Handshake<machine::Server>>(
        std::move(stream), tools, std::move(done), tools.vault->server_slot(), tools.timeouts, io::now());
    handshake->may_in = std::move(authorise);
    handshake->source = source;
    handshake->begin();
    return handshake;
}

std::shared_ptr<HandshakeHandle> start_client_handshake(io::Stream stream,
                                                        const tunnel::HandshakeTools& tools,
                                                        const crypto::PublicKey& server, Instant deadline,
                                                        EstablishedFn done) {
    auto handshake = std::make_shared<Handshake<machine::Client>>(std::move(stream), tools, std::move(done),
                                                                  server, tools.timeouts, deadline);
    handshake->begin();
    return handshake;
}

}  // namespace curvegate::tunnel::curve_tun
