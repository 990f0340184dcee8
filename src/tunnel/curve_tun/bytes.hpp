#pragma once

#include "io/stream_io.hpp"
#include "service/service.hpp"
#include "session/curve_tun.hpp"
#include "tunnel/byte_tunnel.hpp"
#include "tunnel/scratch.hpp"

#include <memory>
#include <optional>
#include <vector>

namespace curvegate::tunnel::curve_tun {

using service::EndOfStream;

/// What it says in EndOfStream::close if the peer ends before it has sent a byte and we have not ended.
enum class UnheardEnd {
    orderly,  ///< server end: a client that had nothing to say
    refusal,  ///< client end: a server that does not let us in closes just so
};

/// The bytes of a session over TCP. One read, one sealing or opening in place and one write an event; sealed
/// frames that the socket does not take at once, and payload that the user does not, are kept, and nothing
/// more is read until they are gone.
class TcpBytes final : public ByteTunnel {
  public:
    struct Options {
        EndOfStream end_of_stream = EndOfStream::message;
        UnheardEnd unheard_end = UnheardEnd::orderly;
    };
    /// `socket` has the options of io/socket_options.hpp. `scratch` outlives this.
    TcpBytes(io::Stream socket, session::curve_tun::Session session, const Options& options,
             Scratch& scratch);
    ~TcpBytes() override;
    TcpBytes(const TcpBytes&) = delete;
    TcpBytes& operator=(const TcpBytes&) = delete;

    void start() override;
    [[nodiscard]] std::span<iovec> prepare() override;
    void commit(std::size_t size) override;
    void flush() override {}  // commit() has sent it
    void finish() override;
    void fail_after_all() override;
    void abort() override;
    [[nodiscard]] bool end_is_told() const override { return up_ == Up::closed; }
    [[nodiscard]] bool is_delivered() override;
    [[nodiscard]] std::span<iovec> readable() override { return readable_; }
    void consume(std::size_t size) override;
    [[nodiscard]] Incoming incoming() const override;
    [[nodiscard]] bool is_complete() const override { return up_ == Up::closed && ended_; }
    [[nodiscard]] bool is_silent(Duration dead_peer) override;

  private:
    enum class Up : std::uint8_t {
        open,
        ending,   ///< an end is to be told, once what is kept has gone
        failing,  ///< the same of a failure
        closed,   ///< told
        lost,     ///< the socket takes no more; what it still holds for us is read to its end
    };

    // out
    void send(Bytes frames);
    void send_kept();
    void wait_writable();
    void settle_up();
    void lose_up();
    // in
    void wait_readable();
    void on_readable();
    void open_frames(MutableBytes bytes);
    [[nodiscard]] std::optional<End> open_frame(MutableBytes packet, std::size_t& count);
    void offer(std::size_t count);
    void keep(std::span<iovec> parts);
    void on_fin();
    // the end
    void tell_event();
    void end(End why);
    void end_later(End why);

    io::Stream socket_;
    session::curve_tun::Session session_;
    Options options_;
    Scratch& scratch_;
    std::vector<Byte> sealed_;  // frames that the socket did not take yet: [sent_, end)
    std::size_t sent_ = 0;
    std::vector<Byte> partial_;  // the beginning of a frame
    std::vector<Byte> opened_;   // payload that the user did not take yet
    std::span<iovec> readable_;  // in the scratch memory during an event, else kept_
    iovec kept_{};               // what is left of opened_
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    Up up_ = Up::open;
    std::uint8_t burst_ = 1;  // messages to read at once; grows while both sides keep up
    bool waits_readable_ = false;
    bool opening_ = false;         // the scratch memory holds frames
    bool room_was_asked_ = false;  // meanwhile
    bool ended_ = false;           // the peer's end of stream has come
    bool heard_ = false;           // a byte of the peer has come
    bool over_ = false;
};

}  // namespace curvegate::tunnel::curve_tun
