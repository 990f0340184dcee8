#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace curvegate::cli {

using Arguments = std::vector<std::string>;

/// One thing that the command does. A further one is a handler declared below and a line in main.cpp's table.
struct Verb {
    std::string_view name;
    std::string_view arguments;                                ///< as its usage line shows them
    std::string_view help;                                     ///< one line
    int (*run)(const Verb& self, const Arguments& arguments);  ///< gives the exit code
};

int keygen(const Verb& self, const Arguments& arguments);       // keys.cpp
int import_key(const Verb& self, const Arguments& arguments);   // keys.cpp
int pubkey(const Verb& self, const Arguments& arguments);       // public_keys.cpp
int fingerprint(const Verb& self, const Arguments& arguments);  // public_keys.cpp
int peers(const Verb& self, const Arguments& arguments);        // peers.cpp
int check(const Verb& self, const Arguments& arguments);        // check.cpp
int probe(const Verb& self, const Arguments& arguments);        // probe.cpp
int connect(const Verb& self, const Arguments& arguments);      // connect.cpp
int counter(const Verb& self, const Arguments& arguments);      // counter.cpp
int run(const Verb& self, const Arguments& arguments);          // run.cpp
int status(const Verb& self, const Arguments& arguments);       // control.cpp
int reload(const Verb& self, const Arguments& arguments);       // control.cpp
int revoke(const Verb& self, const Arguments& arguments);       // control.cpp
int drain(const Verb& self, const Arguments& arguments);        // control.cpp
int events(const Verb& self, const Arguments& arguments);       // control.cpp
int audit(const Verb& self, const Arguments& arguments);        // audit.cpp
int rotate(const Verb& self, const Arguments& arguments);       // rotate.cpp

}  // namespace curvegate::cli
