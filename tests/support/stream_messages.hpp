#pragma once

#include "stream/stream.hpp"
#include "support/bytes.hpp"
#include "support/secrets.hpp"

/// Messages for a stream, written by hand, and what it answers.
namespace curvegate::test {

using wire::curvecp::Message;
using wire::curvecp::MessageId;
using wire::curvecp::Range;
using wire::curvecp::StreamEnd;

inline const Instant kNoon = Instant(std::chrono::hours(12));

/// A written message and what it says; `said.block` lies in `bytes`.
struct Said {
    explicit Said(Bytes from) : bytes(copy_of(from)), message(*wire::curvecp::parse_message(bytes)) {}
    Said(Said&&) noexcept = default;
    Said& operator=(Said&&) noexcept = default;
    Buffer bytes;
    Message message;
    [[nodiscard]] bool is_pure_ack() const { return message.id.value == 0; }
    [[nodiscard]] bool is_ping() const {
        return !is_pure_ack() && message.block.empty() && message.end == StreamEnd::none;
    }
};

/// One end of a stream, with a peer that is the test itself.
class Alone {
  public:
    explicit Alone(const stream::Options& options = {}, bool peer_is_ours = true)
        : stream(options, kNoon), ours(peer_is_ours) {}

    stream::Stream stream;
    Instant now = kNoon;
    bool ours;
    std::uint64_t limit = 1 << 20;

    Result<> give(Message message) {
        if (ours && !message.extension)
            message.extension = wire::curvecp::Extension{.limit = limit, .capabilities = 0};
        Buffer bytes(wire::curvecp::message_size(message));
        serialise(message, bytes);
        return receive(bytes);
    }
    Result<> receive(Bytes bytes) {
        const auto message = wire::curvecp::parse_message(bytes);
        return message ? stream.receive(*message, now) : std::unexpected(message.error());
    }
    Result<> give_block(std::uint32_t id, std::uint64_t position, std::size_t size,
                        StreamEnd end = StreamEnd::none) {
        const auto block = pattern(size);
        Message message;
        message.id = {id};
        message.position = position;
        message.block = block;
        message.end = end;
        return give(message);
    }
    Result<> give_ack(std::uint64_t end, std::uint32_t id = 0, std::vector<Range> more = {}) {
        Message message;
        message.acked_id = {id};
        message.acked[0].end = end;
        std::ranges::copy(more, message.acked.begin() + 1);
        return give(message);
    }
    /// The next message, none: nothing now.
    std::optional<Said> next(std::size_t most = 1'088) {
        Buffer out(most);
        const auto size = stream.next_message(out, now);
        if (size == 0) return std::nullopt;
        return Said(Bytes(out).first(size));
    }
    std::vector<Said> all() {
        std::vector<Said> out;
        while (auto one = next()) out.push_back(std::move(*one));
        return out;
    }
    /// Goes to the next deadline at the latest, which there must be.
    std::vector<Said> wait() {
        now = std::max(now, stream.next_deadline().value());
        return all();
    }
    void write(std::size_t size) {
        while (size > 0) {
            const auto room = stream.prepare();
            if (room.empty()) return;
            const std::size_t part = std::min(size, room.size());
            std::ranges::fill(room.first(part), Byte{7});
            stream.commit(part);
            size -= part;
        }
    }
};

}  // namespace curvegate::test
