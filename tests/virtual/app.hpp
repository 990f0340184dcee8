#pragma once

#include "io/clock.hpp"
#include "support/stream_link.hpp"
#include "tunnel/stream_tunnel.hpp"
#include "tunnel/tunnel.hpp"

/// An application at one end of a tunnel.
namespace curvegate::test {

/// Writes bytes and then, if it is told to, its end; reads all that comes.
class App {
  public:
    /// What it writes and what it expects follow from the seeds.
    App(const std::unique_ptr<tunnel::Tunnel>& tunnel, std::uint64_t own_seed, std::uint64_t peer_seed)
        : tunnel_(std::dynamic_pointer_cast<tunnel::StreamTunnel>(tunnel->outlive({}, {}).lock())),
          session_(tunnel_.lock().get()),
          bytes_(tunnel->bytes()),
          own_(own_seed),
          peer_(peer_seed) {
        session_->on_event = [this] { work(); };
        session_->on_end = [this](tunnel::End why) {
            ended = why;
            ended_at = io::now();
        };
    }

    std::uint64_t read = 0;
    bool intact = true;              ///< all that was read is what the other had written
    std::optional<Instant> done_at;  ///< both directions have ended and ours is acknowledged
    std::optional<tunnel::End> ended;
    Instant ended_at;

    void write(std::uint64_t bytes) {
        total_ += bytes;
        work();
        session_->flush();
    }
    /// After what is to be written.
    void finish() {
        finishes_ = true;
        work();
        session_->flush();
    }
    void give_back() { bytes_.reset(); }

    [[nodiscard]] stream::Stream& stream() { return session_->stream(); }
    [[nodiscard]] bool delivered(std::uint64_t bytes) const {
        return session_->stream().acknowledged() >= bytes;
    }
    /// The tunnel, which may live on after give_back().
    [[nodiscard]] const std::weak_ptr<tunnel::StreamTunnel>& tunnel() const { return tunnel_; }

  private:
    void work() {
        auto& stream = session_->stream();
        while (written_ < total_) {
            const auto room = stream.prepare();
            if (room.empty()) break;
            const auto part = room.first(std::min<std::uint64_t>(room.size(), total_ - written_));
            own_.fill(written_, part);
            stream.commit(part.size());
            written_ += part.size();
        }
        if (finishes_ && written_ == total_ && !stream.outgoing_ended()) stream.finish();
        for (auto part = stream.readable(); !part.empty(); part = stream.readable()) {
            intact = intact && peer_.matches(read, part);
            read += part.size();
            stream.consume(part.size());
        }
        if (!done_at && stream.done()) done_at = io::now();
    }

    std::weak_ptr<tunnel::StreamTunnel> tunnel_;
    tunnel::StreamTunnel* session_;
    std::unique_ptr<tunnel::ByteTunnel> bytes_;  // owns it, and is not used
    Content own_;
    Content peer_;
    std::uint64_t total_ = 0;
    std::uint64_t written_ = 0;
    bool finishes_ = false;
};

}  // namespace curvegate::test
