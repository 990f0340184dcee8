#pragma once

#include "net/dial.hpp"

#include <boost/asio/post.hpp>

#include <map>
#include <string>
#include <vector>

namespace curvegate::test {

/// A resolver that knows what a test has told it.
struct Names final : net::Resolver {
    std::map<std::string, std::vector<ScopedIp>> known;
    void resolve(net::asio::io_context& context, const std::string& host, Handler handler) override {
        Result<std::vector<ScopedIp>> found = known[host];
        if (found->empty()) found = fail(net::DialErrc::name_unknown, host);
        net::asio::post(context, [found = std::move(found), handler = std::move(handler)]() mutable {
            handler(std::move(found));
        });
    }
};

}  // namespace curvegate::test
