#pragma once

#include "support/stream_link.hpp"

#include <deque>
#include <map>
#include <set>

/// The message layer of the reference programs as a peer sees it, with its habits and its mistakes. Its
/// pacing is simplified.
namespace curvegate::test {

class ReferencePeer : public Peer {
  public:
    ReferencePeer(std::uint64_t to_send, std::uint64_t own_seed, std::uint64_t peer_seed, bool pings = false)
        : total(to_send), own_(own_seed), peer_(peer_seed), ping_wanted_(pings) {}

    std::uint64_t total;
    std::uint64_t read = 0;
    bool reads = true;
    bool intact = true;
    bool end_in_last_block = true;
    bool echoes =
        false;  ///< its program writes what it reads, and reads no further until it could write that
    std::size_t absurd_round_trips = 0;  ///< of blocks that it knew to be done
    std::size_t overflows = 0;           ///< messages that found its queue full
    std::size_t acks = 0;
    std::size_t named_twice = 0;
    std::size_t transmissions = 0;  ///< of blocks

    void receive(Bytes message, Instant now) override {
        now_ = now;
        if (queue_.size() >= 64) {
            ++overflows;
            return;
        }
        queue_.push_back(copy_of(message));
        work();
    }
    Bytes next(Instant now) override {
        now_ = now;
        work();
        if (!answers_.empty()) {
            out_ = std::move(answers_.front());
            answers_.pop_front();
            return out_;
        }
        if (now < last_block_ + pace_) return {};
        return next_block();
    }
    [[nodiscard]] Deadline deadline() const override {
        if (!answers_.empty()) return now_;
        if (reads && pipe_ > 0 && !echoes) return now_;
        Deadline out;
        const auto consider = [&](Instant at) {
            at = std::max(at, last_block_ + pace_);
            if (!out || at < *out) out = at;
        };
        if (const auto earliest = earliest_sent()) consider(*earliest + timeout_);
        if (ping_wanted_ || may_send_new()) consider(now_);
        return out;
    }
    [[nodiscard]] bool finished() const override { return end_acked_ && got_end_ && read == peer_end_; }
    [[nodiscard]] bool sent_all() const { return end_acked_; }

  private:
    struct Block {
        std::uint64_t position = 0;
        std::size_t length = 0;
        bool end = false;
        std::uint32_t id = 0;
        std::optional<Instant> sent;  // none: done
    };
    static constexpr std::uint64_t kRing = 131'072;
    static constexpr std::uint64_t kPipe = 65'536;

    // No message is looked at while bytes wait for the program's pipe.
    void work() {
        hand_over();
        while (!queue_.empty() && handed_ == came_) {
            const Buffer message = std::move(queue_.front());
            queue_.pop_front();
            const auto parsed = wire::curvecp::parse_message(message);
            if (parsed) look_at(*parsed);
            hand_over();
        }
    }
    void hand_over() {
        for (bool moved = true; moved;) {
            const auto size = std::min(came_ - handed_, kPipe - pipe_);
            handed_ += size;
            pipe_ += size;
            const auto taken = reads ? (echoes ? std::min(pipe_, kPipe - output_) : pipe_) : 0;
            pipe_ -= taken;
            read += taken;
            if (echoes) take_output(taken);
            moved = taken > 0;
        }
    }
    // From the program, while 4,096 bytes are free.
    void take_output(std::uint64_t written) {
        output_ += written;
        const std::uint64_t acked = blocks_.empty() ? sent_ : blocks_.front().position;
        const std::uint64_t room = acked + kRing - available_;
        const auto size = room >= 4'096 ? std::min(output_, room) : 0;
        available_ += size;
        output_ -= size;
        if (got_end_ && read == peer_end_ && output_ == 0) total = available_;
    }
    void look_at(const wire::curvecp::Message& message) {
        if (message.acked_id.value != 0) take_name(message.acked_id.value);
        for (const auto& range : message.acked) acknowledged(range.begin, range.end);
        if (message.acked[0].end > total) end_acked_ = end_acked_ || end_sent_;
        if (!message.has_block) return;
        const std::uint64_t end = message.position + message.block.size();
        if (end > handed_ + kRing) return;
        intact = intact && peer_.matches(message.position, message.block);
        if (message.end != wire::curvecp::StreamEnd::none) {
            got_end_ = true;
            peer_end_ = end;
        }
        store(message.position, end);
        if (message.id.value != 0) answer(message.id.value);
    }
    void store(std::uint64_t begin, std::uint64_t end) {
        if (begin < end) pieces_[begin] = std::max(pieces_[begin], end);
        while (!pieces_.empty() && pieces_.begin()->first <= came_) {
            came_ = std::max(came_, pieces_.begin()->second);
            pieces_.erase(pieces_.begin());
        }
    }
    void answer(std::uint32_t id) {
        wire::curvecp::Message ack;
        ack.acked_id = {id};
        ack.acked[0].end = came_ + (got_end_ && came_ == peer_end_ ? 1 : 0);
        Buffer bytes(192);
        serialise(ack, bytes);
        answers_.push_back(std::move(bytes));
        ++acks;
    }
    void take_name(std::uint32_t id) {
        if (!named_.insert(id).second) ++named_twice;
        for (auto& block : blocks_) {
            if (block.id != id) continue;
            if (!block.sent) {
                ++absurd_round_trips;
                continue;
            }
            const auto trip = now_ - *block.sent;
            average_ = average_ == Duration() ? trip : average_ + (trip - average_) / 8;
            pace_ = std::clamp<Duration>(average_ / 64, 100us, 1s);
            timeout_ = 3 * average_ + 8 * pace_;
        }
    }
    // An empty end at N counts as done at a1 = N: its mistake.
    void acknowledged(std::uint64_t begin, std::uint64_t end) {
        if (begin >= end) return;
        for (auto& block : blocks_)
            if (block.position >= begin && block.position + block.length <= end) block.sent.reset();
        while (!blocks_.empty() && !blocks_.front().sent) blocks_.pop_front();
    }
    [[nodiscard]] std::optional<Instant> earliest_sent() const {
        std::optional<Instant> out;
        for (const auto& block : blocks_)
            if (block.sent && (!out || *block.sent < *out)) out = block.sent;
        return out;
    }
    [[nodiscard]] bool may_send_new() const {
        if (blocks_.size() >= 128) return false;
        const std::uint64_t acked = blocks_.empty() ? sent_ : blocks_.front().position;
        const std::uint64_t ready = echoes ? available_ : total;
        return (sent_ < ready && sent_ < acked + kRing) || (sent_ == total && !end_sent_);
    }
    Bytes next_block() {
        const auto earliest = earliest_sent();
        if (earliest && now_ >= *earliest + timeout_) {
            if (now_ > last_panic_ + 4 * timeout_) {
                pace_ = std::min<Duration>(pace_ * 2, 1s);
                last_panic_ = now_;
            }
            for (auto& block : blocks_)
                if (block.sent == earliest) return transmit(block);
        }
        if (std::exchange(ping_wanted_, false)) {
            blocks_.push_back({});
            return transmit(blocks_.back());
        }
        if (!may_send_new()) return {};
        const auto length = static_cast<std::size_t>(
            std::min({(echoes ? available_ : total) - sent_, std::uint64_t{1'024}, kRing - sent_ % kRing}));
        const bool end = sent_ + length == total && (end_in_last_block || length == 0);
        blocks_.push_back({.position = sent_, .length = length, .end = end, .id = 0, .sent = {}});
        sent_ += length;
        end_sent_ = end_sent_ || end;
        return transmit(blocks_.back());
    }
    Bytes transmit(Block& block) {
        if (++id_ == 0) ++id_;
        block.id = id_;
        block.sent = now_;
        last_block_ = now_;
        ++transmissions;
        std::size_t size = 192;
        for (const std::size_t one : {192U, 320U, 576U, 1'088U}) {
            size = one;
            if (one >= 64 + block.length) break;
        }
        Buffer bytes(block.length);
        own_.fill(block.position, bytes);
        wire::curvecp::Message message;
        message.id = {id_};
        message.position = block.position;
        message.block = bytes;
        message.end = block.end ? wire::curvecp::StreamEnd::eof : wire::curvecp::StreamEnd::none;
        out_.assign(size, 0);
        serialise(message, out_);
        return out_;
    }

    Content own_;
    Content peer_;
    Instant now_ = kEpoch;
    // receiving
    std::deque<Buffer> queue_;
    std::deque<Buffer> answers_;
    std::map<std::uint64_t, std::uint64_t> pieces_;
    std::uint64_t came_ = 0;
    std::uint64_t handed_ = 0;
    std::uint64_t pipe_ = 0;       // to its program
    std::uint64_t output_ = 0;     // of its program, not yet taken
    std::uint64_t available_ = 0;  // of its program, taken
    std::uint64_t peer_end_ = 0;
    bool got_end_ = false;
    std::set<std::uint32_t> named_;
    // sending
    std::deque<Block> blocks_;
    std::uint64_t sent_ = 0;
    bool end_sent_ = false;
    bool end_acked_ = false;
    bool ping_wanted_ = false;
    std::uint32_t id_ = 0;
    Instant last_block_;
    Instant last_panic_;
    Duration pace_ = 1ms;
    Duration timeout_ = 1s;
    Duration average_{};
    Buffer out_;
};

}  // namespace curvegate::test
