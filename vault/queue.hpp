#pragma once

#include "vault/permissions.hpp"
#include "vault/protocol/protocol.hpp"

#include <deque>
#include <optional>

namespace curvegate::vault {

/// The requests of one connection that wait for their answer. Hellos, which strangers cause, wait behind all
/// others, few at a time, and the newest is answered first: under a flood the oldest would come too late.
class RequestQueue {
  public:
    static constexpr std::size_t kMostPrompt = 256;
    static constexpr std::size_t kMostHellos = 64;

    /// How many more requests may be read; others wait in the socket.
    [[nodiscard]] std::size_t room() const noexcept { return kMostPrompt - prompt_.size(); }

    /// Gives back the oldest Hello if there is no room for another: it is to be refused as over_rate.
    [[nodiscard]] std::optional<Request> push(const Request& request) {
        if (permission_of(verb_of(request.body)).turn == Turn::prompt) {
            prompt_.push_back(request);
            return std::nullopt;
        }
        std::optional<Request> dropped;
        if (hellos_.size() == kMostHellos) {
            dropped = hellos_.front();
            hellos_.pop_front();
        }
        hellos_.push_back(request);
        return dropped;
    }

    /// The oldest request that is no Hello.
    [[nodiscard]] std::optional<Request> pop_prompt() {
        if (prompt_.empty()) return std::nullopt;
        Request out = prompt_.front();
        prompt_.pop_front();
        return out;
    }
    /// The newest Hello.
    [[nodiscard]] std::optional<Request> pop_hello() {
        if (hellos_.empty()) return std::nullopt;
        Request out = hellos_.back();
        hellos_.pop_back();
        return out;
    }
    [[nodiscard]] std::size_t size() const noexcept { return prompt_.size() + hellos_.size(); }

  private:
    std::deque<Request> prompt_;
    std::deque<Request> hellos_;
};

}  // namespace curvegate::vault
