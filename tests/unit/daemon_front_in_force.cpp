#include "daemon/front/in_force.hpp"

#include "registry_keys.hpp"

#include <catch2/catch.hpp>

namespace curvegate::daemon::front {
namespace {

TEST_CASE("each revoked key is one entry of the registry, however many follow", "[daemon][revoke]") {
    InForce in_force;
    in_force.peers_are(registry::Registry({}));
    for (int round = 0; round < 2; ++round) {
        for (Byte i = 1; i <= 20; ++i) in_force.revoke({registry::key_number(i)});
    }
    CHECK(in_force.revoked.size() == 20);
    CHECK(in_force.registry->entries().size() == 20);
    in_force.peers_are(registry::Registry({}));  // a reload
    CHECK(in_force.registry->entries().size() == 20);
}

}  // namespace
}  // namespace curvegate::daemon::front
