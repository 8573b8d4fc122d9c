// A scene with what makes a ray tracer work: reflection, refraction, textures, shadows of an area light, many objects.
#version 3.7;
#include "colors.inc"
#include "textures.inc"
#include "glass.inc"
#include "woods.inc"
#include "stones.inc"
#include "metals.inc"
global_settings { assumed_gamma 1.0 max_trace_level 8 }
camera { location <0, 4, -11> look_at <0, 1.5, 0> angle 45 }
light_source {
    <-12, 18, -14> color rgb 1.2
    area_light <3, 0, 0>, <0, 0, 3>, 4, 4 adaptive 1
}
light_source { <14, 9, -6> color rgb <0.3, 0.35, 0.45> shadowless }
sky_sphere { pigment { gradient y color_map { [0 rgb <0.7, 0.8, 1>] [1 rgb <0.1, 0.2, 0.6>] } } }
plane { y, 0 texture { T_Stone24 scale 2 } finish { reflection 0.15 } }
#declare Seed = seed(2002);
#declare Row = -3;
#while (Row <= 3)
    #declare Column = 0;
    #while (Column <= 4)
        sphere {
            <Row * 1.3 + rand(Seed) * 0.3, 0.5, Column * 1.4 - 2>, 0.5
            #switch (mod(Row + 3 + Column, 4))
                #case (0) texture { T_Glass3 } interior { ior 1.5 } #break
                #case (1) texture { T_Chrome_4C } #break
                #case (2) texture { T_Wood7 scale 0.4 } #break
                #else texture { pigment { granite scale 0.3 } finish { phong 0.8 } }
            #end
        }
        #declare Column = Column + 1;
    #end
    #declare Row = Row + 1;
#end
blob {
    threshold 0.6
    #declare Turn = 0;
    #while (Turn < 12)
        sphere { <1.6 * cos(Turn * pi / 6), 2.4 + 0.5 * sin(Turn * 1.3), 1.6 * sin(Turn * pi / 6)>, 1, 1 }
        #declare Turn = Turn + 1;
    #end
    texture { T_Gold_3C }
}
isosurface {
    function { x*x + pow(y - 0.3 * sin(6 * x) * cos(6 * z), 2) + z*z - 0.8 }
    contained_by { sphere { 0, 1.3 } } max_gradient 6
    translate <0, 2.5, 0>
    texture { T_Silver_2B }
}
