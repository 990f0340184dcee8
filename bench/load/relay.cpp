#include "common.hpp"

#include <sys/socket.h>

#include <cstdio>
#include <memory>
#include <unordered_map>

namespace curvegate::load {
namespace {

/// Two connections and what goes between them.
class Pair {
  public:
    struct End {
        Pair* pair;
        UniqueFd fd;
        std::uint32_t events = EPOLLIN;  // that epoll waits for
        std::vector<Byte> waiting = {};  // for this end to take it
        bool has_ended = false;          // nothing more comes from this end
        bool was_told = false;           // that nothing more comes for it
        std::uint64_t passed = 0;        // bytes that came from it
    };

    Pair(UniqueFd near, UniqueFd far, std::optional<std::uint64_t> flip)
        : ends_{End{this, std::move(near)}, End{this, std::move(far)}}, flip_(flip) {}

    void begin(const Poll& poll) {
        for (End& end : ends_) poll.add(end.fd.get(), end.events, &end);
    }
    /// Moves what can be moved after something has happened at `end`. False: it is over.
    bool move(End& end, std::uint32_t happened, MutableBytes buffer, const Poll& poll) {
        End& other = &end == ends_.data() ? ends_[1] : ends_[0];
        if ((happened & EPOLLOUT) != 0 && !pass(other, end, buffer)) return false;
        if ((happened & ~EPOLLOUT) != 0 && !pass(end, other, buffer)) return false;
        if (end.was_told && other.was_told) return false;
        watch(end, other, poll);
        watch(other, end, poll);
        return true;
    }

  private:
    bool pass(End& from, End& to, MutableBytes buffer) {
        while (true) {
            if (!flush(to)) return false;
            if (!to.waiting.empty()) return true;
            if (from.has_ended) {
                if (!to.was_told) ::shutdown(to.fd.get(), SHUT_WR);
                to.was_told = true;
                return true;
            }
            const Moved got = receive(from.fd.get(), buffer);
            if (got.how == Moved::How::broken) return false;
            if (got.how == Moved::How::blocks) return true;
            from.has_ended = got.how == Moved::How::end;
            if (from.has_ended) continue;
            const MutableBytes data = buffer.first(got.size);
            spoil(from, data);
            const Moved sent = send(to.fd.get(), data);
            if (sent.how == Moved::How::broken) return false;
            to.waiting.assign(data.begin() + static_cast<std::ptrdiff_t>(sent.size), data.end());
            if (got.size < buffer.size()) return true;  // asking for more would be in vain
        }
    }
    static bool flush(End& to) {
        if (to.waiting.empty()) return true;
        const Moved sent = send(to.fd.get(), to.waiting);
        if (sent.size == to.waiting.size()) {
            to.waiting = {};  // an idle connection keeps no memory
        } else {
            to.waiting.erase(to.waiting.begin(), to.waiting.begin() + static_cast<std::ptrdiff_t>(sent.size));
        }
        return sent.how != Moved::How::broken;
    }
    void spoil(End& from, MutableBytes data) {
        const std::uint64_t first = std::exchange(from.passed, from.passed + data.size());
        const bool is_here = flip_ && &from == ends_.data() && *flip_ >= first && *flip_ < from.passed;
        if (is_here) data[static_cast<std::size_t>(*flip_ - first)] ^= 1;
    }
    static void watch(End& end, const End& other, const Poll& poll) {
        const std::uint32_t wanted =
            (end.has_ended || !other.waiting.empty() ? 0U : EPOLLIN) | (end.waiting.empty() ? 0U : EPOLLOUT);
        if (wanted != end.events) poll.change(end.fd.get(), wanted, &end);
        end.events = wanted;
    }

    std::array<End, 2> ends_;
    std::optional<std::uint64_t> flip_;
};

}  // namespace

void relay(std::string_view port, const sockaddr_in& target, std::optional<std::uint64_t> flip) {
    allow_descriptors(0);
    const UniqueFd listener = listen_on(port);
    Poll poll;
    poll.add(listener.get(), EPOLLIN, nullptr);
    std::printf("%d\n", port_of(listener.get()));
    std::fflush(stdout);
    std::unordered_map<const Pair*, std::unique_ptr<Pair>> pairs;
    std::vector<Byte> buffer(kPiece);
    std::uint64_t number = 0;
    while (true) {
        std::vector<std::unique_ptr<Pair>> ended;  // kept until no event of this turn names them
        for (const epoll_event& event : poll.wait(false)) {
            if (event.data.ptr == nullptr) {
                while (auto near = accept_from(listener.get())) {
                    auto pair = std::make_unique<Pair>(std::move(*near), connect_to(target, number++), flip);
                    pair->begin(poll);
                    pairs.emplace(pair.get(), std::move(pair));
                }
                continue;
            }
            Pair::End& end = *static_cast<Pair::End*>(event.data.ptr);
            const auto found = pairs.find(end.pair);
            if (found == pairs.end() || end.pair->move(end, event.events, buffer, poll)) continue;
            ended.push_back(std::move(found->second));
            pairs.erase(found);
        }
    }
}

}  // namespace curvegate::load
