#define CATCH_CONFIG_RUNNER
#include "crypto/secret.hpp"

#include <catch2/catch.hpp>

int main(int argc, char** argv) {
    if (!curvegate::crypto::initialise()) return 1;
    return Catch::Session().run(argc, argv);
}
