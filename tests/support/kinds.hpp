#pragma once

#include "handshake/events.hpp"

#include <vector>

namespace curvegate::test {

template <class Event>
struct KindsOf;
template <class... Alternatives>
struct KindsOf<std::variant<Alternatives...>> {
    static constexpr std::array kKinds = {Alternatives::kKind...};
};

/// Every kind of event that a wire has, in EventKind's order: no alternative is left out, none is there
/// twice.
template <class Event>
std::vector<handshake::EventKind> kinds_of() {
    const auto& kinds = KindsOf<Event>::kKinds;
    std::vector<handshake::EventKind> out(kinds.begin(), kinds.end());
    std::ranges::sort(out);
    return out;
}

}  // namespace curvegate::test
