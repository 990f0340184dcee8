// Boost.JSON's sources, compiled here and nowhere else.
#include <boost/json/src.hpp>
