// Tables as CSV, and figures of their columns drawn by gnuplot. The script and the table stay beside the figure, so that it can be edited and drawn
// again: gnuplot NAME.gp in that folder.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace linnet::examples {

// Rows of numbers under names. NaN is a blank cell.
struct Table {
  std::vector<std::string> names;
  std::vector<std::vector<double>> rows;  // each as long as names
};

struct Curve {
  std::size_t column = 0;   // of the table
  std::string title;        // in the legend; empty: not there
  std::string style;        // what gnuplot's "with" takes: "lines lw 2 lc rgb '#D55E00'". Written by programs, never from data
};

struct Panel {
  std::string title, y_label;
  bool log_y = false;
  double y_min = 0;         // of a logarithmic axis; 0: as the data have it
  std::string legend;       // where it stands, as gnuplot's "set key" takes it: "bottom left"; empty: no legend
  std::vector<Curve> curves;
};

// Panels side by side over the table's first column, which is drawn on a logarithmic axis between the limits; rows outside are not drawn.
struct Figure {
  std::string title, x_label;
  double x_min = 1, x_max = 10;
  std::vector<Panel> panels;
};

struct Drawn {
  std::vector<std::filesystem::path> files;  // those that exist now
  std::string note;                          // why there is no picture, if there is none
};

// std::runtime_error if a file cannot be written, std::invalid_argument if the table or a column is not what it should be.
void write_csv(const Table& table, const std::filesystem::path& file);
// NAME.csv and NAME.gp in the folder, which must exist; then, unless told not to, NAME.svg and NAME.png.
Drawn draw(const Figure& figure, const Table& table, const std::filesystem::path& folder, const std::string& name, bool run_gnuplot = true);

// Text as a gnuplot string that is only text: gnuplot runs commands found in double quotes, and reads single quotes as they are.
std::string gnuplot_string(const std::string& text);

}  // namespace linnet::examples
