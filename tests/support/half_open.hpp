#pragma once

#include "support/ends.hpp"

#include <catch2/catch.hpp>

namespace curvegate::test {

struct HalfOpen {
    ClientEnd client;
    ServerEnd server;
};

/// Up to where the client has written its vouch and the server has not seen it.
inline HalfOpen half_open(World& world, TestVault& identity) {
    HalfOpen out{world.client(identity), world.server()};
    out.client.start(world.fresh_keys(), kStart);
    out.server.receive(std::exchange(out.client.outgoing, {}), kStart);
    out.client.receive(std::exchange(out.server.outgoing, {}), kStart);
    REQUIRE(out.client.session.has_value());
    return out;
}

}  // namespace curvegate::test
